"""The table of tiny random models: one entry per architecture or variant of it, and the checkpoint that all exporters read."""
import os
import zlib

import torch

# Every model: hidden 64, 4 heads, vocabulary 256, room for 128 positions. `kind` says which scenarios and outputs apply.
BASE = dict(vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
            max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
GQA = dict(BASE, num_key_value_heads=2)
GPT = dict(vocab_size=256, n_embd=64, n_layer=2, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2)
OPT = dict(BASE, ffn_dim=128)
BLOOM = dict(vocab_size=256, hidden_size=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2, pad_token_id=0)
FALCON = dict(BASE, ffn_hidden_size=128)
# original == maximum: no long RoPE for the genai builder, which also takes any matrix with `vocabulary` rows for the head (so
# the fused gate and up must not have 256); onnxruntime wants rotary sizes of at least 16.
PHI3 = dict(GQA, intermediate_size=96, original_max_position_embeddings=128)
WIDE = dict(BASE, num_attention_heads=2)
MOE = dict(GQA, num_experts=4, num_experts_per_tok=2, norm_topk_prob=False)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", factor=4.0)
# Threshold 10: b1_p7 (10 tokens in all) and b1_chunk stay on the short table, b1_p12 is on the long one from the first call,
# so that a cached run equals a full forward in every scenario.
LONGROPE = dict(type="longrope", short_factor=[1.0 + 0.05 * i for i in range(8)], long_factor=[1.5 + 0.9 * i for i in range(8)])
ENC = {k: v for k, v in BASE.items() if k != "tie_word_embeddings"}
MODERN = dict(ENC, num_hidden_layers=3, global_attn_every_n_layers=3, local_attention=6, cls_token_id=1, sep_token_id=2,
              reference_compile=False, classifier_pooling="mean")
DEBERTA = dict(ENC, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm",
               share_att_key=True, position_biased_input=False, type_vocab_size=0)
DISTIL = dict(vocab_size=256, dim=64, n_layers=2, n_heads=4, hidden_dim=128, max_position_embeddings=128, pad_token_id=0)
LFM2 = dict(GQA, num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"], block_auto_adjust_ff_dim=False,
            conv_L_cache=3, max_position_embeddings=128)
LABELS = dict(id2label={0: "negative", 1: "neutral", 2: "positive"}, label2id={"negative": 0, "neutral": 1, "positive": 2})

# name: (configuration class, its arguments)
DECODERS = {
    "llama_mha": ("Llama", dict(BASE, num_key_value_heads=4)),
    "llama_gqa": ("Llama", GQA),
    "llama3_rope": ("Llama", dict(GQA, rope_theta=500000.0, rope_scaling=LLAMA3, tie_word_embeddings=True)),
    "llama_bias": ("Llama", dict(BASE, num_key_value_heads=1, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    "llama_yarn": ("Llama", dict(GQA, rope_scaling=YARN)),
    "llama_linear": ("Llama", dict(GQA, rope_scaling=LINEAR, head_dim=32)),
    "mistral": ("Mistral", dict(GQA, sliding_window=4)),
    "mistral_full": ("Mistral", dict(GQA, sliding_window=None, head_dim=32)),
    "qwen2": ("Qwen2", GQA),
    "qwen2_tied": ("Qwen2", dict(GQA, tie_word_embeddings=True, rope_theta=1000000.0)),
    "qwen2_window": ("Qwen2", dict(GQA, use_sliding_window=True, sliding_window=4, max_window_layers=1)),
    "qwen3": ("Qwen3", dict(GQA, head_dim=32, tie_word_embeddings=True)),
    "phi": ("Phi", dict(WIDE, partial_rotary_factor=0.5)),
    "phi_qknorm": ("Phi", dict(WIDE, partial_rotary_factor=0.5, qk_layernorm=True)),
    "phi3": ("Phi3", PHI3),
    "phi3_window": ("Phi3", dict(PHI3, sliding_window=4)),
    "phi3_longrope": ("Phi3", dict(GQA, intermediate_size=96, rope_scaling=LONGROPE, original_max_position_embeddings=10)),
    "phi4_partial": ("Phi3", dict(PHI3, num_attention_heads=2, num_key_value_heads=1, partial_rotary_factor=0.5, tie_word_embeddings=True)),
    "gemma": ("Gemma", dict(BASE, num_key_value_heads=1, head_dim=32, tie_word_embeddings=True, hidden_activation="gelu_pytorch_tanh")),
    "gemma2": ("Gemma2", dict(GQA, head_dim=32, sliding_window=4, query_pre_attn_scalar=24, attn_logit_softcapping=2.0,
                              final_logit_softcapping=3.0, tie_word_embeddings=True)),
    "gemma3_text": ("Gemma3Text", dict(BASE, num_key_value_heads=1, num_hidden_layers=3, head_dim=32, sliding_window=4,
                                       layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                                       query_pre_attn_scalar=32, rope_local_base_freq=10000.0, rope_theta=1000000.0,
                                       tie_word_embeddings=True)),
    "smollm3": ("SmolLM3", dict(GQA, num_hidden_layers=4, no_rope_layers=[1, 1, 0, 1], use_sliding_window=False,
                                tie_word_embeddings=True)),
    "gpt2": ("GPT2", dict(GPT)),
    "gpt_neox": ("GPTNeoX", dict(BASE, rotary_pct=0.25, use_parallel_residual=True)),
    "gpt_neox_seq": ("GPTNeoX", dict(BASE, rotary_pct=1.0, use_parallel_residual=False)),
    "opt": ("OPT", OPT),
    "opt_postnorm": ("OPT", dict(OPT, word_embed_proj_dim=32, do_layer_norm_before=False)),
    "bloom": ("Bloom", BLOOM),
    "falcon_mqa": ("Falcon", dict(FALCON, multi_query=True, parallel_attn=True, bias=False, alibi=False, new_decoder_architecture=False)),
    "falcon_new": ("Falcon", dict(FALCON, num_kv_heads=2, new_decoder_architecture=True, bias=False, alibi=False)),
    "falcon_alibi": ("Falcon", dict(FALCON, multi_query=False, parallel_attn=False, bias=True, alibi=True, new_decoder_architecture=False)),
    "stablelm": ("StableLm", dict(GQA, partial_rotary_factor=0.25, use_qkv_bias=True)),
    "stablelm_qknorm": ("StableLm", dict(GQA, partial_rotary_factor=0.5, qk_layernorm=True, use_parallel_residual=True)),
    "olmo": ("Olmo", BASE),
    "olmo_clip": ("Olmo", dict(GQA, clip_qkv=0.5)),
    "olmo2": ("Olmo2", GQA),
    "granite": ("Granite", dict(GQA, embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.5, logits_scaling=0.5,
                                tie_word_embeddings=True)),
    "starcoder2": ("Starcoder2", dict(GQA, sliding_window=4, tie_word_embeddings=True)),
    "cohere": ("Cohere", dict(GQA, logit_scale=0.5, tie_word_embeddings=True)),
    "cohere_qknorm": ("Cohere", dict(GQA, logit_scale=0.5, use_qk_norm=True, tie_word_embeddings=True)),
    "nemotron": ("Nemotron", dict(WIDE, num_key_value_heads=1, partial_rotary_factor=0.5)),
    "olmoe": ("Olmoe", dict(MOE, intermediate_size=64)),
    "qwen2_moe": ("Qwen2Moe", dict(MOE, moe_intermediate_size=64, shared_expert_intermediate_size=96)),
    "lfm2": ("Lfm2", LFM2),
}
ENCODERS = {
    "bert": ("Bert", ENC),
    "distilbert": ("DistilBert", DISTIL),
    "roberta": ("Roberta", dict(ENC, pad_token_id=1, bos_token_id=0, type_vocab_size=1, max_position_embeddings=130)),
    "electra": ("Electra", dict(ENC, embedding_size=32)),
    "mpnet": ("MPNet", dict(ENC, pad_token_id=1, bos_token_id=0, max_position_embeddings=130)),
    "deberta_v2": ("DebertaV2", DEBERTA),
    "modernbert": ("ModernBert", MODERN),
}
T5 = dict(vocab_size=256, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
          relative_attention_max_distance=16, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
BART = dict(vocab_size=256, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=128, pad_token_id=1, bos_token_id=0, eos_token_id=2,
            decoder_start_token_id=2, forced_eos_token_id=2)
SEQ2SEQ = {
    "t5": ("T5", dict(T5, feed_forward_proj="relu")),
    "t5_gated": ("T5", dict(T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    "bart": ("Bart", BART),
}
# Encoder heads: suffix of the model's name -> (automatic class, optimum's task).
HEADS = {
    "": ("AutoModel", "feature-extraction"),
    "_cls": ("AutoModelForSequenceClassification", "text-classification"),
    "_tok": ("AutoModelForTokenClassification", "token-classification"),
}


KINDS = ("decoder", "encoder", "encoder-decoder")


def names(kind):
    if kind != "encoder":
        return list(DECODERS if kind == "decoder" else SEQ2SEQ)
    return [n + h for h in HEADS for n in ENCODERS] + [n + "_st" for n in ("bert", "mpnet", "roberta", "modernbert", "distilbert")]


def split(name):
    """The encoder's base name and its head's suffix; `_st` (sentence embedding) wraps the bare encoder."""
    for suffix in ("_cls", "_tok", "_st"):
        if name.endswith(suffix):
            return name[: -len(suffix)], suffix
    return name, ""


def kind(name):
    if name in SEQ2SEQ:
        return "encoder-decoder"
    return "decoder" if name in DECODERS else "encoder"


def fill(model, seed):
    """Random weights with logits of about unit deviation: matrices 1/sqrt(fan in), norms around one, biases not zero."""
    gen = torch.Generator().manual_seed(seed)
    gemma = "Gemma" in type(model).__name__
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=gen)
        leaf = name.rsplit(".", 1)[-1]
        if id(p) in embeddings:
            value = noise / p.shape[-1] ** 0.5
        elif p.dim() == 1 or "norm" in name.lower() and p.dim() == 2:
            one_based = leaf == "weight" and not gemma and "Nemotron" not in type(model).__name__
            value = noise * 0.2 + (1.0 if one_based else 0.0)
        else:
            gain = 1.5 if any(k in name for k in ("q_proj", "k_proj", "query", "key")) else 1.0
            value = noise * gain / (p.numel() / p.shape[0]) ** 0.5
        p.data.copy_(value)


def build(name):
    import transformers

    if name in DECODERS:
        cls, args = DECODERS[name]
        config = getattr(transformers, cls + "Config")(**args)
        with transformers.modeling_utils.no_init_weights():
            model = transformers.AutoModelForCausalLM.from_config(config)
    elif name in SEQ2SEQ:
        cls, args = SEQ2SEQ[name]
        model = transformers.AutoModelForSeq2SeqLM.from_config(getattr(transformers, cls + "Config")(**args))
    else:
        base, head = split(name)
        cls, args = ENCODERS[base]
        extra = LABELS if head in ("_cls", "_tok") else {}
        config = getattr(transformers, cls + "Config")(**args, **extra)
        auto, _ = HEADS.get(head, HEADS[""])
        model = getattr(transformers, auto).from_config(config)
    fill(model, zlib.crc32(name.encode()))
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    return model.float().eval()


def modern():
    """Whether this environment has transformers 5."""
    import transformers

    return int(transformers.__version__.split(".")[0]) >= 5


def checkpoint(root, name):
    """The checkpoint's folder, made on first use (by transformers 4.57, whose layout 5.x reads too)."""
    folder = os.path.join(root, "checkpoints", name)
    if not os.path.exists(os.path.join(folder, "config.json")):
        temporary = f"{folder}.{os.getpid()}"
        build(name).save_pretrained(temporary)
        os.rename(temporary, folder)
    return folder


def load(root, name, **args):
    import transformers

    folder = checkpoint(root, name)
    autos = {"decoder": "AutoModelForCausalLM", "encoder-decoder": "AutoModelForSeq2SeqLM"}
    auto = autos.get(kind(name)) or HEADS.get(split(name)[1], HEADS[""])[0]
    dtype = args.pop("dtype", torch.float32)
    return getattr(transformers, auto).from_pretrained(folder, dtype=dtype, **args).eval()
