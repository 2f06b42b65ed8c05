"""OpenVINO GenAI as a peer: run by the benchmark with the Python of OpenVINO's own environment.

    PYTHON benchmarks/peers/openvino_genai_cpu.py EXPORTED_FOLDER DTYPE THREADS

Same exchange as vllm_cpu.py. Serves all requests through its continuous batching pipeline.
"""

import json
import sys
import time

import numpy as np
import openvino
import openvino_genai
import PIL.Image

folder, dtype, threads = sys.argv[1:4]
PRECISION = {"float32": "f32", "bfloat16": "bf16"}[dtype]


def answer(pipeline: "openvino_genai.ContinuousBatchingPipeline", path: str) -> dict[str, object]:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        rows = json.load(file)
    pictures, settings = [], []
    for row in rows:
        with PIL.Image.open(row["image"]) as picture:
            pictures.append([openvino.Tensor(np.array(picture.convert("RGB"))[None])])
        settings.append(
            openvino_genai.GenerationConfig(
                max_new_tokens=row["output_tokens"],
                ignore_eos=True,
                do_sample=False,
                apply_chat_template=False,
            )
        )
    began = time.perf_counter()
    # The pipeline puts the line break behind a picture itself.
    prompts = [row["prompt"].replace("<image>\n", "<image>") for row in rows]
    results = pipeline.generate(prompts, images=pictures, generation_config=settings)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "texts": [result.texts[0] for result in results],
        "output_tokens": results[0].perf_metrics.get_num_generated_tokens(),  # of all together
    }


def main() -> None:
    began = time.perf_counter()
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 2  # GiB, as the engine's own budget
    scheduler.max_num_seqs = 32
    scheduler.enable_prefix_caching = True
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        folder,
        scheduler,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": PRECISION,
            "KV_CACHE_PRECISION": PRECISION,
            "INFERENCE_NUM_THREADS": int(threads),
        },
    )
    about = {
        "version": openvino_genai.__version__,
        "start_seconds": round(time.perf_counter() - began, 1),
    }
    print("READY", json.dumps(about), flush=True)
    for line in sys.stdin:
        print("RESULT", json.dumps(answer(pipeline, line.strip())), flush=True)


if __name__ == "__main__":
    main()
