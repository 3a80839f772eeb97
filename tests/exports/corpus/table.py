"""The table of exporters: which function with which options makes a case, and of which models where not of all."""
import torch

from exporter_genai import genai
from exporter_hf import hfnative
from exporters import dynamo, optimum

# tag: (function, options, environment that has it)
EXPORTERS = {
    "optimum": (optimum, {}, "venv457"),
    "optimum_op14": (optimum, {"opset": 14}, "venv457"),
    "optimum_op17": (optimum, {"opset": 17}, "venv457"),
    "dynamo18": (dynamo, {"opset": 18}, "venv457"),
    "dynamo23": (dynamo, {"opset": 23}, "venv"),
    "hfnative": (hfnative, {}, "venv"),
    "hfnative_ort": (hfnative, {"fusions": "cpu"}, "venv"),
    "genai_fp32": (genai, {}, "venv"),
    "genai_int4": (genai, {"precision": "int4"}, "venv"),
    "genai_int8": (genai, {"precision": "int8"}, "venv"),
    "genai_int4_qdq": (genai, {"precision": "int4", "use_qdq": "true"}, "venv"),
    "genai_prune_lm_head": (genai, {"prune_lm_head": "true"}, "venv"),
    "genai_exclude_lm_head": (genai, {"exclude_lm_head": "true"}, "venv"),
    "genai_hidden_states": (genai, {"include_hidden_states": "true"}, "venv"),
    "genai_exclude_embeds": (genai, {"exclude_embeds": "true"}, "venv"),
    "genai_fullcache": (genai, {"windowed_kv_cache": "false"}, "venv"),
    "genai012_fp32": (genai, {}, "venv457"),
    "genai012_int4": (genai, {"precision": "int4"}, "venv457"),
}
GENAI = ["llama_mha", "llama_gqa", "llama3_rope", "llama_bias", "llama_yarn", "llama_linear", "mistral", "mistral_full", "qwen2",
         "qwen2_tied", "qwen3", "phi", "phi3", "phi3_window", "phi3_longrope", "phi4_partial", "gemma", "gemma2", "gemma3_text",
         "smollm3", "olmo", "granite", "nemotron", "lfm2"]
FEW = ["llama_gqa", "llama3_rope", "qwen2_tied", "qwen3", "gemma", "phi3", "phi3_longrope"]
# Exporters that do not know every model, and variants that are made of a few.
ONLY = {
    "optimum_op14": ["llama_gqa", "gpt_neox", "bert_cls", "distilbert"],
    "optimum_op17": ["qwen2"],
    "hfnative_ort": ["llama_gqa", "llama3_rope", "mistral", "qwen3", "phi3", "gemma3_text", "gpt2", "bert", "modernbert", "granite"],
    "genai_fp32": GENAI,
    "genai_int4": GENAI,
    "genai_int8": FEW + ["lfm2", "olmo"],
    "genai_int4_qdq": FEW,
    "genai_prune_lm_head": ["llama_gqa"],
    "genai_exclude_lm_head": ["llama_gqa"],
    "genai_hidden_states": ["llama_gqa", "qwen3"],
    "genai_exclude_embeds": ["llama_gqa"],
    "genai_fullcache": ["gemma2", "mistral", "phi3_window"],
    "genai012_fp32": GENAI,
    "genai012_int4": ["llama_gqa", "qwen2_tied", "gemma3_text", "phi3"],
}
