"""T5 and BART by optimum: the encoder, the decoder without a cache and the merged decoder (If on use_cache_branch), a case each."""
import os
import zlib

import numpy as np
import torch

import architectures
import goldens
import scenarios
from exporters import tidy, versions

FILES = {"encoder": "encoder_model.onnx", "decoder": "decoder_model.onnx", "decoder_merged": "decoder_model_merged.onnx"}


class Reference(goldens.Reference):
    """Goldens of one of the three graphs; scenarios feed the decoder with float64 torch's encoder output."""

    def __init__(self, root, name, part):
        self.name, self.part = name, part
        self.model = architectures.load(root, name, dtype=torch.float64, attn_implementation="eager").double()
        self.pad = self.model.config.pad_token_id
        self.kind = "encoder" if part == "encoder" else "encoder-decoder"
        self.rows = {}
        if part == "encoder":
            self.scenarios = scenarios.scenarios(name, "encoder", self.pad)
            self.encoder = self.model.get_encoder()
            return
        rng = np.random.default_rng(zlib.crc32(name.encode()) + 2)
        cached = part == "decoder_merged"
        self.scenarios = [self.decoding("b1_p1", rng, [9], [1, 1, 1, 1] if cached else [4]),
                          self.decoding("b1_p7", rng, [9], [7, 1, 1, 1] if cached else [10]),
                          self.decoding("b2_p3", rng, [9, 5], [3, 1, 1] if cached else [5])]

    def encode(self, tokens):
        ids = torch.tensor(tokens)[None]
        with torch.no_grad():
            return self.model.get_encoder()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state

    def decoding(self, name, rng, lengths, widths):
        """A decoder run over right-padded encoder outputs."""
        scenario = scenarios._run(name, rng, [widths[0]] * len(lengths), widths, False, self.pad)
        scenario.sources = [rng.integers(3, 250, n) for n in lengths]
        hidden = np.zeros((len(lengths), max(lengths), self.model.config.d_model))
        mask = np.zeros((len(lengths), max(lengths)), int)
        for r, tokens in enumerate(scenario.sources):
            hidden[r, : len(tokens)] = self.encode(tokens)[0].numpy()
            mask[r, : len(tokens)] = 1
        for i, step in enumerate(scenario.steps):
            step.extra = {"encoder_hidden_states": hidden, "encoder_attention_mask": mask, "use_cache_branch": np.array([i > 0])}
        return scenario

    def evaluate(self, token_types):
        for s in self.scenarios:
            if self.part == "encoder":
                self.rows[s.name] = [{"last_hidden_state": self.encode(tokens)[0].numpy()} for tokens in s.rows]
                continue
            self.rows[s.name] = []
            for tokens, source in zip(s.rows, s.sources):
                with torch.no_grad():
                    out = self.model(encoder_outputs=(self.encode(source),), decoder_input_ids=torch.tensor(tokens)[None], use_cache=False)
                self.rows[s.name].append({"logits": out.logits[0].numpy()})


def optimum(root, name, folder, part, **_):
    from optimum.exporters.onnx import onnx_export_from_model

    model = architectures.load(root, name)
    onnx_export_from_model(model, folder, opset=18, task="text2text-generation-with-past", do_validation=False, device="cpu")
    os.rename(os.path.join(folder, FILES[part]), os.path.join(folder, "model.onnx"))
    tidy(folder)
    text = f"optimum-onnx (TorchScript), {versions('optimum-onnx', 'torch', 'transformers')}, opset 18, {FILES[part]}"
    return text, {"reference": Reference(root, name, part)}
