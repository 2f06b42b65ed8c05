/* Products of a few rows with int8 weights, for CPUs: what decoding one or a few answers spends its time on.
 *
 * Weights are widened in registers and sums are float32. A step reads every weight of the model once, so all hangs
 * on how they come from memory: SIDE output rows are summed side by side, for one running sum would wait for
 * itself, and lines are asked for AHEAD bytes before their turn, past the ends of rows and of small layers, for the
 * processor's own prefetching loses its thread there (docs/log.md). Asking past the end of memory does no harm.
 */
#include <stdint.h>

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC target("prefer-vector-width=512") /* only where -march=native has such registers */
#endif

#define SIDE 4 /* output rows at a time */
#define TOGETHER 4 /* rows of x at a time */
#define LINE 64 /* bytes the memory delivers together */
#define AHEAD 8192

#define ADD(i)                                                                  \
    for (int o = 0; o < SIDE; o++)                                              \
        for (int r = 0; r < rows; r++) sums[o][r] += (float)codes[o * in + (i)] * x[r * in + (i)];

/* y[r * stride + o] = scale[o] * sum_i codes[o * in + i] * x[r * in + i] for ROWS rows and SIDE outputs */
#define DEFINE_PRODUCT(ROWS)                                                                                     \
    static void product_##ROWS(const float *x, const int8_t *codes, const float *scale, int64_t in, float *y,    \
                               int64_t stride) {                                                                 \
        enum { rows = ROWS };                                                                                    \
        float sums[SIDE][ROWS] = {{0}};                                                                          \
        int64_t i = 0;                                                                                           \
        for (; i + LINE <= in; i += LINE) {                                                                      \
            for (int o = 0; o < SIDE; o++) __builtin_prefetch(codes + o * in + i + AHEAD);                       \
            for (int j = 0; j < LINE; j++) ADD(i + j)                                                            \
        }                                                                                                        \
        for (; i < in; i++) ADD(i)                                                                               \
        for (int o = 0; o < SIDE; o++)                                                                           \
            for (int r = 0; r < ROWS; r++) y[r * stride + o] = sums[o][r] * scale[o];                            \
    }
DEFINE_PRODUCT(1)
DEFINE_PRODUCT(2)
DEFINE_PRODUCT(3)
DEFINE_PRODUCT(4)

typedef void product(const float *, const int8_t *, const float *, int64_t, float *, int64_t);
static product *const products[TOGETHER] = {product_1, product_2, product_3, product_4};

/* The outputs that fill no whole side. */
static void product_left(const float *x, const int8_t *codes, float scale, int64_t in, int64_t rows, float *y,
                         int64_t stride) {
    for (int64_t r = 0; r < rows; r++) {
        float sum = 0;
        for (int64_t i = 0; i < in; i++) sum += (float)codes[i] * x[r * in + i];
        y[r * stride] = sum * scale;
    }
}

/* x [rows, in], codes [out, in], scale [out] -> y [rows, out], all contiguous */
void int8_product(const float *x, const int8_t *codes, const float *scale, int64_t rows, int64_t in, int64_t out,
                  float *y, int threads) {
    int64_t whole = out - out % SIDE;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t first = 0; first < whole; first += SIDE)
        for (int64_t row = 0; row < rows; row += TOGETHER) {
            int64_t some = rows - row < TOGETHER ? rows - row : TOGETHER;
            products[some - 1](x + row * in, codes + first * in, scale + first, in, y + row * out + first, out);
        }
    for (int64_t o = whole; o < out; o++) product_left(x, codes + o * in, scale[o], in, rows, y + o, out);
}
