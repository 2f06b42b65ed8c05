/* Attention of decoding sequences straight from the paged cache, for CPUs.
 *
 * One query token per sequence. Every (sequence, key head) pair is one piece of work: its keys and values are
 * read once, in place, by all query heads that share them, with an online softmax over chunks of tokens
 * (Milakov and Gimelshein 2018, arXiv 1805.02867; the paging is vLLM's, arXiv 2309.06180). Nothing is copied
 * and nothing is padded, which is what the same in torch operators costs.
 *
 * Compiled once per storage type: float, or with -DBFLOAT16 uint16_t that holds a bfloat16.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define CHUNK 32       /* tokens between two corrections of the running maximum */
#define AHEAD 16       /* tokens asked of memory before they are needed: slots jump, hardware cannot guess */
#define MAX_SHARING 16 /* query heads that may share a key head; the caller checks */
#define MAX_WIDTH 256  /* numbers per head; the caller checks */

#ifdef BFLOAT16
typedef uint16_t number;
static inline float widen(number stored) {
    uint32_t bits = (uint32_t)stored << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline number narrow(float value) { /* to nearest, ties to even, as torch rounds */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (number)((bits >> 16) | 0x40); /* stays a NaN */
    return (number)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
#else
typedef float number;
static inline float widen(number stored) { return stored; }
static inline number narrow(float value) { return value; }
#endif

/* e^x for x <= 0 in operations that compilers vectorise, which they do not do with libm's: 2^n by exponent bits,
 * the rest by a polynomial; relative error below 3e-7. Below -87 the result is as good as 0. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts: exact reduction */
    float p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666667f + r * (0.0416666667f +
              r * (0.00833333333f + r * 0.00138888889f)))));
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static inline void prefetch(const number *cache, int64_t stride, const int64_t *slots, int64_t token,
                            int64_t count, int width) {
    const char *row = (const char *)(cache + slots[token < count ? token : count - 1] * stride);
    for (size_t byte = 0; byte < width * sizeof(number); byte += 64) __builtin_prefetch(row + byte);
}

/* One sequence under one key head.
 *   query, output: [sharing] rows, `query_stride` and `width_v` numbers apart
 *   keys, values: the whole cache from this head on, tokens `key_stride` and `value_stride` numbers apart
 *   slots [count]: where the sequence's tokens lie
 *   sinks [sharing] or NULL: logits that take weight and give nothing
 */
static inline __attribute__((always_inline)) void attend_one(const number *query, int64_t query_stride, const number *keys, int64_t key_stride,
                       const number *values, int64_t value_stride, const int64_t *slots, int64_t count,
                       int sharing, int width, int width_v, float scale, float softcap, const float *sinks,
                       number *output) {
    float queries[MAX_SHARING][MAX_WIDTH], sums[MAX_SHARING][MAX_WIDTH], scores[MAX_SHARING][CHUNK];
    float row[MAX_WIDTH], highest[MAX_SHARING], total[MAX_SHARING];
    for (int head = 0; head < sharing; head++) {
        for (int i = 0; i < width; i++) queries[head][i] = widen(query[head * query_stride + i]) * scale;
        memset(sums[head], 0, sizeof(float) * width_v);
        highest[head] = sinks ? sinks[head] : -INFINITY;
        total[head] = sinks ? 1.0f : 0.0f;
    }
    for (int64_t start = 0; start < count; start += CHUNK) {
        int tokens = count - start < CHUNK ? (int)(count - start) : CHUNK;
        for (int t = 0; t < tokens; t++) {
            const number *key = keys + slots[start + t] * key_stride;
            prefetch(keys, key_stride, slots, start + t + AHEAD, count, width);
            for (int i = 0; i < width; i++) row[i] = widen(key[i]);
            for (int head = 0; head < sharing; head++) {
                float dot = 0.0f;
                for (int i = 0; i < width; i++) dot += queries[head][i] * row[i];
                scores[head][t] = dot;
            }
        }
        for (int head = 0; head < sharing; head++) {
            if (softcap > 0.0f)
                for (int t = 0; t < tokens; t++) scores[head][t] = softcap * tanhf(scores[head][t] / softcap);
            float best = highest[head];
            for (int t = 0; t < tokens; t++) best = scores[head][t] > best ? scores[head][t] : best;
            float shrink = exponential(highest[head] - best), sum = 0.0f;
            for (int t = 0; t < tokens; t++) {
                scores[head][t] = exponential(scores[head][t] - best);
                sum += scores[head][t];
            }
            total[head] = total[head] * shrink + sum;
            highest[head] = best;
            for (int i = 0; i < width_v; i++) sums[head][i] *= shrink;
        }
        for (int t = 0; t < tokens; t++) {
            const number *value = values + slots[start + t] * value_stride;
            prefetch(values, value_stride, slots, start + t + AHEAD, count, width_v);
            for (int i = 0; i < width_v; i++) row[i] = widen(value[i]);
            for (int head = 0; head < sharing; head++)
                for (int i = 0; i < width_v; i++) sums[head][i] += scores[head][t] * row[i];
        }
    }
    for (int head = 0; head < sharing; head++)
        for (int i = 0; i < width_v; i++) output[head * width_v + i] = narrow(sums[head][i] / total[head]);
}

/* All decoding sequences of one layer.
 *   query: sequence s, head h at query + rows[s] * token_stride + h * head_stride
 *   keys [slots, key_heads, width], values [slots, key_heads, width_v], contiguous
 *   slots: of all sequences, one after the other; sequence s owns [bounds[s], bounds[s + 1])
 *   output: [tokens, heads, width_v], contiguous; row rows[s] is written
 */
void paged_decode(const number *query, int64_t token_stride, int64_t head_stride, const number *keys,
                  const number *values, const int64_t *slots, const int64_t *bounds, const int64_t *rows,
                  int64_t sequences, int64_t heads, int64_t key_heads, int64_t width, int64_t width_v,
                  float scale, float softcap, const float *sinks, number *output, int threads) {
    int sharing = (int)(heads / key_heads);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t piece = 0; piece < sequences * key_heads; piece++) {
        int64_t sequence = piece / key_heads, group = piece % key_heads, first = group * sharing;
#define ATTEND(WIDTH, WIDTH_V)                                                                                \
    attend_one(query + rows[sequence] * token_stride + first * head_stride, head_stride,                      \
               keys + group * width, key_heads * width, values + group * width_v, key_heads * width_v,        \
               slots + bounds[sequence], bounds[sequence + 1] - bounds[sequence], sharing, WIDTH, WIDTH_V,    \
               scale, softcap, sinks ? sinks + first : NULL, output + (rows[sequence] * heads + first) * width_v)
        /* The widths most models have, known to the compiler, are unrolled. */
        if (width == 64 && width_v == 64) ATTEND(64, 64);
        else if (width == 128 && width_v == 128) ATTEND(128, 128);
        else ATTEND((int)width, (int)width_v);
#undef ATTEND
    }
}
