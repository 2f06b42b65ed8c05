"""vLLM on CPU as a peer: run by the benchmark with the Python of vLLM's own environment.

    PYTHON benchmarks/peers/vllm_cpu.py MODEL_FOLDER DTYPE THREADS

Reads a path of a request file (see engine_parts/workload.py) per line from standard input and answers each with
a line `RESULT {"seconds": ..., "token_ids": [[...], ...]}`; `READY {...}` comes first.
"""

import json
import os
import sys
import time

folder, dtype, threads = sys.argv[1:4]
os.environ.update(
    OMP_NUM_THREADS=threads,
    VLLM_CPU_KVCACHE_SPACE="2",  # GiB, as the engine's own budget
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",  # its own process would spin on a core while others are measured
    VLLM_NO_USAGE_STATS="1",
    HF_HUB_OFFLINE="1",
)

import PIL.Image  # noqa: E402  (the settings above are read on import)
import vllm  # noqa: E402


def answer(llm: "vllm.LLM", path: str) -> dict[str, object]:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        rows = json.load(file)
    prompts = []
    for row in rows:
        with PIL.Image.open(row["image"]) as picture:
            prompts.append({"prompt": row["prompt"], "multi_modal_data": {"image": picture.convert("RGB")}})
    sampling = [
        vllm.SamplingParams(temperature=0.0, max_tokens=row["output_tokens"], ignore_eos=True) for row in rows
    ]
    began = time.perf_counter()
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "token_ids": [list(output.outputs[0].token_ids) for output in outputs],
    }


def main() -> None:
    began = time.perf_counter()
    llm = vllm.LLM(
        model=folder,
        dtype=dtype,
        max_num_seqs=32,
        max_model_len=1024,
        enforce_eager=os.environ.get("PEER_EAGER", "1") == "1",
        limit_mm_per_prompt={"image": 1},
        disable_log_stats=True,
        seed=0,
    )
    about = {"version": vllm.__version__, "start_seconds": round(time.perf_counter() - began, 1)}
    print("READY", json.dumps(about), flush=True)
    for line in sys.stdin:
        print("RESULT", json.dumps(answer(llm, line.strip())), flush=True)


if __name__ == "__main__":
    main()
