"""What PyTorch makes of a GPU: its limits, and a Llama-shaped model with random weights as a peer. Run by gpu.

usage: torch_speed.py limits                           {"bandwidth": bytes/s, "f16_flops": ...} of the device, measured
       torch_speed.py SHAPE KINDS PREFILL,... CONTEXT,... ROUNDS [DEVICE]
           SHAPE: JSON with layers, hidden, heads, kv_heads, head_size, inner, vocabulary
           KINDS: of bf16, int4 (4-bit weights of groups of 32 for decoding, by PyTorch's own kernel), with commas

After every figure the whole result so far is printed as a line of JSON, {"KIND": {"prefill": {length: tok/s}, "decode": {context: tok/s},
"compiled": 0 or 1}}, so that a run that is stopped loses only what it had not measured. A layer goes through torch.compile, and a step
is one CUDA graph; where the compiler fails, its operations are captured as they are. A decoded token ends with its id on the host.
"""
import json
import statistics
import sys
import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F

DECODED, WARM = 32, 4
GROUP = 32  # of int4


def seconds(work, device, rounds=5):
    """The median time of work(), which is warm."""
    times = []
    for _ in range(rounds):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def limits(device):
    """Random data: zeros run faster. Both ways of counting bandwidth, the better one is the limit."""
    size = 8192
    a, b = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))
    half = lambda: [torch.matmul(a, b) for _ in range(10)]  # noqa: E731
    half()
    found = {"f16_flops": 10 * 2 * size**3 / seconds(half, device)}
    source = torch.randn(1 << 30, device=device, dtype=torch.float32)  # 4 GiB
    target = torch.empty_like(source)
    copy, read = (lambda: target.copy_(source)), (lambda: source.sum())
    copy(), read()
    bytes_of = source.numel() * 4
    found["copy"], found["read"] = 2 * bytes_of / seconds(copy, device), bytes_of / seconds(read, device)
    found["bandwidth"] = max(found["copy"], found["read"])
    return found


class Dense:
    """A bf16 matrix."""

    def __init__(self, rows, cols, device):
        self.parts = (torch.randn(rows, cols, device=device, dtype=torch.bfloat16) * cols**-0.5,)

    @staticmethod
    def apply(x, weight):
        return F.linear(x, weight)


class Int4:
    """A matrix as torch._weight_int4pack_mm takes it."""

    def __init__(self, rows, cols, device):
        codes = torch.randint(0, 256, (rows, cols // 2), device=device, dtype=torch.uint8)
        tiles = next(n for n in (8, 4, 2) if cols % (16 * n) == 0)
        scale = torch.full((cols // GROUP, rows, 1), cols**-0.5 / 4, device=device, dtype=torch.bfloat16)
        self.parts = (torch.ops.aten._convert_weight_to_int4pack(codes, tiles), torch.cat((scale, torch.zeros_like(scale)), 2).contiguous())

    @staticmethod
    def apply(x, packed, scales):
        return torch.ops.aten._weight_int4pack_mm(x, packed, GROUP, scales)


def normed(x):
    return F.rms_norm(x, x.shape[-1:])


def rotated(x, cos, sin):  # [heads, T, size]
    low, high = x.chunk(2, -1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)


def layer_of(shape, kind):
    """A function of one layer; its matrices come as the flat parts of qkv, o, gate and up, down."""
    width, kv, size = shape.heads * shape.head_size, shape.kv_heads * shape.head_size, shape.head_size
    count = 1 if kind is Dense else 2

    def layer(x, keys, values, cos, sin, places, mask, *parts):
        qkv, o, gate_up, down = (parts[i * count:(i + 1) * count] for i in range(4))
        tokens = x.shape[0]
        q, k, v = kind.apply(normed(x), *qkv).split((width, kv, kv), -1)
        q, k, v = (part.view(tokens, -1, size).transpose(0, 1) for part in (q, k, v))
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        keys.index_copy_(1, places, k)
        values.index_copy_(1, places, v)
        if tokens == 1:  # the heads of a group are the queries of their kv head
            grouped = q.reshape(1, shape.kv_heads, -1, size)
            y = F.scaled_dot_product_attention(grouped, keys[None], values[None], attn_mask=mask)
            y = y.reshape(1, width)
        else:
            group = shape.heads // shape.kv_heads
            y = F.scaled_dot_product_attention(q[None], k.repeat_interleave(group, 0)[None], v.repeat_interleave(group, 0)[None], is_causal=True)
            y = y[0].transpose(0, 1).reshape(tokens, width)
        x = x + kind.apply(y, *o)
        gate, up = kind.apply(normed(x), *gate_up).chunk(2, -1)
        return x + kind.apply(F.silu(gate) * up, *down)

    return layer


class Model:
    def __init__(self, shape, kind, positions, device):
        self.shape, self.kind, self.device = shape, kind, device
        width, kv = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        sizes = ((width + 2 * kv, shape.hidden), (shape.hidden, width), (2 * shape.inner, shape.hidden), (shape.hidden, shape.inner))
        self.layers = [sum((kind(rows, cols, device).parts for rows, cols in sizes), ()) for _ in range(shape.layers)]
        self.head = kind(shape.vocabulary, shape.hidden, device).parts
        self.table = torch.randn(shape.vocabulary, shape.hidden, device=device, dtype=torch.bfloat16)
        angles = torch.outer(torch.arange(positions), 1e4 ** (-torch.arange(0, shape.head_size, 2) / shape.head_size))
        self.cos, self.sin = (part.to(device, torch.bfloat16) for part in (angles.cos(), angles.sin()))
        self.keys, self.values = (torch.zeros(shape.layers, shape.kv_heads, positions, shape.head_size, device=device, dtype=torch.bfloat16)
                                  for _ in range(2))
        self.plain = layer_of(shape, kind)

    def step(self, layer, ids, places, length):
        """The next token after `ids` at `places`; a single one sees `length` positions."""
        x, cos, sin = self.table[ids], self.cos[places], self.sin[places]
        mask = torch.arange(length, device=self.device)[None] <= places[-1:, None]
        for i, parts in enumerate(self.layers):
            x = layer(x, self.keys[i, :, :length], self.values[i, :, :length], cos, sin, places, mask, *parts)
        return self.kind.apply(normed(x[-1:]), *self.head).argmax(-1)

    def recorded(self, tokens, length):
        """(run, whether its layers are compiled): a step with fixed inputs that feeds itself when it has one token."""
        ids = torch.randint(0, self.shape.vocabulary, (tokens,), device=self.device)
        places = torch.arange(tokens, device=self.device) if tokens > 1 else torch.full((1,), length - DECODED - WARM - 8, device=self.device)

        def once(layer):
            token = self.step(layer, ids, places, length)
            if tokens == 1:
                ids.copy_(token)
                places.add_(1)
            return token

        for layer, compiled in ((torch.compile(self.plain, dynamic=True), 1), (self.plain, 0)):
            try:
                if self.device.type != "cuda":
                    once(layer)
                    return (lambda: once(layer)), compiled
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(2):
                        once(layer)
                torch.cuda.current_stream().wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    token = once(layer)
                return (lambda: (graph.replay(), token)[1]), compiled
            except Exception as error:  # whatever a compiler of another version raises
                if not compiled:
                    raise
                print(f"torch.compile: {str(error).splitlines()[0]}", file=sys.stderr)


def measure(shape, kinds, prefills, contexts, rounds, device):
    found = {}
    for name in kinds:
        figures = found[name] = {"prefill": {}, "decode": {}}
        model = Model(shape, {"bf16": Dense, "int4": Int4}[name], max(prefills + contexts) + DECODED + 16, device)
        for context in contexts:
            run, figures["compiled"] = model.recorded(1, context + DECODED + WARM + 8)
            for _ in range(WARM):
                run()
            figures["decode"][context] = DECODED / seconds(lambda: [run().item() for _ in range(DECODED)], device, 1)
            print(json.dumps(found), flush=True)
        for length in prefills if name == "bf16" else ():  # the product of many rows is not what int4 is for
            run, figures["compiled"] = model.recorded(length, length)
            run()
            figures["prefill"][length] = length / seconds(run, device, rounds)
            print(json.dumps(found), flush=True)
        del model


def main():
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    if sys.argv[1] == "limits":
        print(json.dumps(limits(torch.device("cuda"))))
        return
    shape = SimpleNamespace(**json.loads(sys.argv[1]))
    prefills, contexts = ([int(n) for n in part.split(",")] for part in sys.argv[3:5])
    measure(shape, sys.argv[2].split(","), prefills, contexts, int(sys.argv[5]), torch.device(*sys.argv[6:] or ("cuda",)))


if __name__ == "__main__":
    main()
