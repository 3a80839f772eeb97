"""The exporters: each writes model.onnx (and what comes with it) for one model into a folder."""
import os
import shutil

import torch

import architectures

OPTIMUM_DECODER_TASK = "text-generation-with-past"


def versions(*names):
    import importlib.metadata as md

    return ", ".join(f"{n} {md.version(n)}" for n in names)


def tidy(folder):
    """Keeps the graph, its external data and the configurations."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif not name.startswith("model.onnx") and name not in ("genai_config.json", "config.json"):
            os.remove(path)


# --- optimum (TorchScript) ---------------------------------------------------------------------------------------------
def optimum(root, name, folder, opset=18, dtype=None, attention=None, **_):
    from optimum.exporters.onnx import onnx_export_from_model

    base, head = architectures.split(name)
    if head == "_st":
        return sentence_torchscript(root, name, folder, opset)
    model = architectures.load(root, name, **({"attn_implementation": attention} if attention else {}))
    if dtype:
        model = model.to(dtype)
    task = OPTIMUM_DECODER_TASK if architectures.kind(name) == "decoder" else architectures.HEADS[head][1]
    onnx_export_from_model(model, folder, opset=opset, task=task, do_validation=False, device="cpu", no_dynamic_axes=False)
    tidy(folder)
    text = f"optimum-onnx (TorchScript), {versions('optimum-onnx', 'torch', 'transformers')}, opset {opset}"
    return text + (f", {attention} attention" if attention else "")


class Sentence(torch.nn.Module):
    """What sentence-transformers computes after its tokenizer: token embeddings, their masked mean, normalized."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        tokens = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).expand(tokens.size()).to(tokens.dtype)
        mean = (tokens * weight).sum(1) / torch.clamp(weight.sum(1), min=1e-9)
        return tokens, torch.nn.functional.normalize(mean, p=2, dim=1)


ENCODER_AXES = {0: "batch_size", 1: "sequence_length"}


def sentence_torchscript(root, name, folder, opset):
    model = Sentence(architectures.load(root, name)).eval()
    ids = torch.randint(3, 200, (2, 9))
    torch.onnx.export(model, (ids, torch.ones_like(ids)), os.path.join(folder, "model.onnx"), dynamo=False, opset_version=opset,
                      input_names=["input_ids", "attention_mask"], output_names=["token_embeddings", "sentence_embedding"],
                      dynamic_axes={"input_ids": ENCODER_AXES, "attention_mask": ENCODER_AXES, "token_embeddings": ENCODER_AXES,
                                    "sentence_embedding": {0: "batch_size"}})
    model.model.config.save_pretrained(folder)
    tidy(folder)
    return f"torch.onnx.export (TorchScript) of a mean-pooling wrapper, {versions('torch', 'transformers')}, opset {opset}"


# --- torch.onnx.export(dynamo=True) of a wrapper with a flat cache -------------------------------------------------------
class Flat(torch.nn.Module):
    """A causal LM with its cache as flat tensors: ids, mask, positions, then key and value of each layer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids, past):
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache()
        for i in range(len(past) // 2):
            cache.update(past[2 * i], past[2 * i + 1], i)
        extra = {} if self.model.config.model_type in ("bloom",) else {"position_ids": position_ids}
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True, **extra)
        return (out.logits, *[t for layer in out.past_key_values.layers for t in (layer.keys, layer.values)])


class Heads(torch.nn.Module):
    """An encoder with its main output alone."""

    def __init__(self, model, output):
        super().__init__()
        self.model, self.output = model, output

    def forward(self, input_ids, attention_mask):
        return getattr(self.model(input_ids=input_ids, attention_mask=attention_mask), self.output)


def cache_shapes(model):
    """The shape [heads, head size] of every cached tensor, key and value of each layer, as the model itself makes them."""
    with torch.no_grad():
        cache = model(input_ids=torch.tensor([[5, 6]]), use_cache=True).past_key_values
    return [(t.shape[1], t.shape[3]) for layer in cache.layers for t in (layer.keys, layer.values)]


def dynamo_decoder(model, opset):
    """The program of a causal LM; its cache has the model's own precision."""
    seq = {0: "batch", 1: "seq"}
    past = [torch.zeros(2, heads, 5, size, dtype=model.dtype) for heads, size in cache_shapes(model)]
    names = [f"past_key_values.{i}.{k}" for i in range(len(past) // 2) for k in ("key", "value")]
    args = (torch.ones(2, 3, dtype=torch.long), torch.ones(2, 8, dtype=torch.long), torch.arange(5, 8).expand(2, 3).contiguous(), past)
    shapes = (seq, {0: "batch", 1: "past_plus_seq"}, seq, [{0: "batch", 2: "past"}] * len(past))
    with torch.no_grad():
        return torch.onnx.export(Flat(model), args, dynamo=True, opset_version=opset, dynamic_shapes=shapes, verbose=False,
                                 input_names=["input_ids", "attention_mask", "position_ids", *names],
                                 output_names=["logits", *[n.replace("past_key_values", "present") for n in names]])


def dynamo_encoder(model, head, opset):
    """The program of an encoder's one output, or with `_st` of its sentence embedding."""
    ids, seq = torch.randint(3, 200, (2, 9)), {0: "batch", 1: "seq"}
    output = "logits" if head in ("_cls", "_tok") else "last_hidden_state"
    wrapper, outputs = (Sentence(model), ["token_embeddings", "sentence_embedding"]) if head == "_st" else (Heads(model, output), [output])
    with torch.no_grad():
        return torch.onnx.export(wrapper.eval(), (ids, torch.ones_like(ids)), dynamo=True, opset_version=opset, verbose=False,
                                 dynamic_shapes=(seq, seq), input_names=["input_ids", "attention_mask"], output_names=outputs)


def dynamo(root, name, folder, opset=18, dtype=None, external=False, **_):
    moe = architectures.modern() and "moe" in name
    model = architectures.load(root, name, **({"experts_implementation": "batched_mm"} if moe else {}))
    if dtype:
        model = model.to(dtype)
    decoder = architectures.kind(name) == "decoder"
    program = dynamo_decoder(model, opset) if decoder else dynamo_encoder(model, architectures.split(name)[1], opset)
    program.save(os.path.join(folder, "model.onnx"), external_data=external)
    model.config.save_pretrained(folder)
    tidy(folder)
    text = f"torch.onnx.export(dynamo=True), {versions('torch', 'onnxscript', 'transformers')}, opset {opset}"
    return text + (", experts_implementation batched_mm" if moe else "")  # the default, grouped_mm, has no lowering
