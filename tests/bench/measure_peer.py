"""Measures one peer once, in its own process, and prints JSON: {"prefill": {length: tok/s}, "decode": {context: tok/s}}.

usage: measure_peer.py llama.cpp|onnxruntime|openvino MODEL THREADS [cuda]        (run by compare_peers.py with the peers' Python;
                                                                                     with cuda, which the first two know, by gpu)

Every prompt is fresh random tokens, so that no peer can reuse a prefix it has seen. Prefill asks for the logits of the last position,
where the peer lets one choose; decode is greedy, timed over DECODED tokens after two that warm the caches up.
"""
import ctypes
import json
import random
import sys
import time

PREFILL, DECODE, DECODED, WARM = (64, 512, 2048), (16, 1000, 4000), 32, 2
LONGEST = max(*PREFILL, *DECODE) + 64


def prompt(length: int) -> list:
    return [random.randrange(100, 40000) for _ in range(length)]


def llama_cpp(path: str, threads: int, cuda: bool):
    import llama_cpp.llama_cpp as api

    global silent  # the library keeps the pointer, Python must keep the object
    silent = api.llama_log_callback(lambda level, text, data: None)
    api.llama_log_set(silent, ctypes.c_void_p(0))
    api.llama_backend_init()
    if cuda and not api.llama_supports_gpu_offload():
        raise SystemExit("this llama.cpp was built without CUDA")
    settings = api.llama_model_default_params()
    settings.n_gpu_layers = 999 if cuda else 0
    model = api.llama_model_load_from_file(path.encode(), settings)
    options = api.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = LONGEST, LONGEST, 512
    options.n_threads = options.n_threads_batch = threads
    context = api.llama_init_from_model(model, options)
    if not context:
        raise SystemExit(f"llama.cpp could not open {path}")

    def feed(ids: list):
        tokens = (api.llama_token * len(ids))(*ids)  # the batch points to it
        if api.llama_decode(context, api.llama_batch_get_one(tokens, len(ids))) != 0:
            raise SystemExit("llama_decode failed")
        api.llama_synchronize(context)

    def prefill(length: int) -> float:
        api.llama_memory_clear(api.llama_get_memory(context), True)
        ids, start = prompt(length), time.perf_counter()
        feed(ids)
        return time.perf_counter() - start

    def decode(length: int) -> float:
        prefill(length)
        steps = prompt(WARM + DECODED)
        for token in steps[:WARM]:
            feed([token])
        start = time.perf_counter()
        for token in steps[WARM:]:
            feed([token])
        return time.perf_counter() - start

    return prefill, decode


def onnxruntime(path: str, threads: int, cuda: bool):
    import onnxruntime_genai as og

    config = og.Config(path)
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    if cuda:
        config.clear_providers()
        config.append_provider("cuda")
    model = og.Model(config)

    def generator():
        options = og.GeneratorParams(model)
        options.set_search_options(max_length=LONGEST, min_length=LONGEST, do_sample=False)
        return og.Generator(model, options)

    def prefill(length: int) -> float:
        ids, run = prompt(length), generator()
        start = time.perf_counter()
        run.append_tokens(ids)
        return time.perf_counter() - start

    def decode(length: int) -> float:
        run = generator()
        run.append_tokens(prompt(length))
        for _ in range(WARM):
            run.generate_next_token()
        start = time.perf_counter()
        for _ in range(DECODED):
            run.generate_next_token()
        return time.perf_counter() - start

    return prefill, decode


def openvino(path: str, threads: int, cuda: bool):
    import numpy as np
    import openvino as ov
    import openvino_genai as og

    if cuda:
        raise SystemExit("OpenVINO does not use CUDA")
    pipeline = og.LLMPipeline(path, "CPU", INFERENCE_NUM_THREADS=threads)

    def generate(length: int, tokens: int):
        ids = np.array([prompt(length)], dtype=np.int64)
        options = og.GenerationConfig()
        options.max_new_tokens, options.ignore_eos, options.do_sample = tokens, True, False
        return pipeline.generate(og.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids))), options).perf_metrics

    def prefill(length: int) -> float:
        return generate(length, 1).get_ttft().mean / 1000

    def decode(length: int) -> float:
        return generate(length, DECODED + 1).get_tpot().mean / 1000 * DECODED

    return prefill, decode


def main():
    name, path, threads, cuda = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:] == ["cuda"]
    prefill, decode = {"llama.cpp": llama_cpp, "onnxruntime": onnxruntime, "openvino": openvino}[name](path, threads, cuda)
    prefill(32)
    result = {"prefill": {n: n / prefill(n) for n in PREFILL}, "decode": {n: DECODED / decode(n) for n in DECODE}}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
