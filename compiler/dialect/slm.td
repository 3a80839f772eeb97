// The model dialect: what small language models are made of, over a ragged batch of T tokens.
//
// A value is tensor<?xWxf32>: one row per token of the step; which slot and position a row has is known to the step, not the IR.
// A weight is tensor<NxKxf32> named by `slm.weight`, a view of the mapped file.
#ifndef SMELT_COMPILER_DIALECT_SLM_TD
#define SMELT_COMPILER_DIALECT_SLM_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def SLM_Dialect : Dialect {
  let name = "slm";
  let cppNamespace = "::smelt::slm";
  let summary = "small language models over a ragged batch of tokens";
}

class SLM_Op<string mnemonic, list<Trait> traits = []> : Op<SLM_Dialect, mnemonic, traits>;

def SLM_Rows : RankedTensorOf<[F32]>;      // tensor<?xWxf32>
def SLM_Ids : RankedTensorOf<[I32]>;       // tensor<?xi32>
def SLM_WeightTensor : RankedTensorOf<[F32]>;    // tensor<NxKxf32> (vectors are 1xK)

def SLM_ActivationKind : I32EnumAttr<"Activation", "elementwise function", [
    I32EnumAttrCase<"Identity", 0, "identity">, I32EnumAttrCase<"Relu", 1, "relu">,
    I32EnumAttrCase<"Relu2", 2, "relu2">, I32EnumAttrCase<"Silu", 3, "silu">,
    I32EnumAttrCase<"GeluTanh", 4, "gelu_tanh">, I32EnumAttrCase<"GeluErf", 5, "gelu_erf">]> {
  let cppNamespace = "::smelt::slm";
}

def SLM_WeightOp : SLM_Op<"weight", [Pure]> {
  let summary = "a view of a weight that stays in the mapped model file";
  let description = [{
    `id` is the row of the weight store; element (r, c) of the view lies `offset + r * row_stride + c * col_stride` elements
    into that weight. Transposes and slices of an initializer are views of the same id, which keeps tying visible.
  }];
  let arguments = (ins I64Attr:$id, StrAttr:$name, DefaultValuedAttr<I64Attr, "0">:$offset, I64Attr:$row_stride,
                       DefaultValuedAttr<I64Attr, "1">:$col_stride);
  let results = (outs SLM_WeightTensor:$result);
  let assemblyFormat = "$name attr-dict `:` type($result)";
}

def SLM_EmbeddingOp : SLM_Op<"embedding", [Pure]> {
  let summary = "y[t] = scale * table[ids[t]], table[position of t + position_offset] or table[token type of t]";
  // `token_types`: looks up token types, of which so many may be given; 1: row 0 for every token.
  // `format`, `packed_offset`: set by quantize; the section offset of the packed table.
  let arguments = (ins SLM_Ids:$ids, SLM_WeightTensor:$table, DefaultValuedAttr<F64Attr, "1.0">:$scale, StrAttr:$name,
                       OptionalAttr<StrAttr>:$format, OptionalAttr<I64Attr>:$packed_offset, OptionalAttr<I64Attr>:$position_offset,
                       OptionalAttr<I64Attr>:$token_types);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = "$ids `,` $table attr-dict `:` type($ids) `,` type($table) `->` type($result)";
  let hasVerifier = 1;
}

def SLM_LinearOp : SLM_Op<"linear", [Pure, AttrSizedOperandSegments]> {
  let summary = "y = x * concat_rows(weights)^T + bias [+ residual], or activation(gate) * up when gated";
  let description = [{
    Raise makes one weight and at most a bias. Fuse may give several weights (their rows one after the other), a residual that
    is added to the result, or `gated`: exactly two weights [F, K] (gate, up) and y = gated(x gate^T) * (x up^T) [T, F].
    Quantize sets `format` (runtime/formats/formats.def), `activation` (activations.def) and `packed_offset`, the byte offset
    of the packed rows in the weights section; `name` keys the statistics.
  }];
  let arguments = (ins SLM_Rows:$input, Variadic<SLM_WeightTensor>:$weights, Optional<SLM_WeightTensor>:$bias,
                       Optional<SLM_Rows>:$residual, StrAttr:$name, OptionalAttr<SLM_ActivationKind>:$gated,
                       OptionalAttr<StrAttr>:$format, OptionalAttr<StrAttr>:$activation, OptionalAttr<I64Attr>:$packed_offset);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = [{
    $input `,` `[` $weights `]` (`bias` $bias^)? (`residual` $residual^)? attr-dict `:` type($input) `,` `[` type($weights) `]`
    (`bias` type($bias)^)? (`residual` type($residual)^)? `->` type($result)
  }];
  let hasVerifier = 1;
}

def SLM_RmsNormOp : SLM_Op<"rms_norm", [Pure]> {
  let summary = "y = x / sqrt(mean(x^2) + epsilon) * weight; gemma's (1 + w) is already folded into weight";
  let arguments = (ins SLM_Rows:$input, SLM_WeightTensor:$weight, F64Attr:$epsilon);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)";
  let hasVerifier = 1;
}

def SLM_LayerNormOp : SLM_Op<"layer_norm", [Pure]> {
  let summary = "y = (x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias";
  let arguments = (ins SLM_Rows:$input, SLM_WeightTensor:$weight, Optional<SLM_WeightTensor>:$bias, F64Attr:$epsilon);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = [{
    $input `,` $weight (`,` $bias^)? attr-dict `:` type($input) `,` type($weight) (`,` type($bias)^)? `->` type($result)
  }];
  let hasVerifier = 1;
}

def SLM_HeadNormOp : SLM_Op<"head_norm", [Pure]> {
  let summary = "rms_norm over each head: the row is cut into heads of head_dim columns; weight is [1, head_dim]";
  let arguments = (ins SLM_Rows:$input, SLM_WeightTensor:$weight, I64Attr:$head_dim, F64Attr:$epsilon);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)";
  let hasVerifier = 1;
}

def SLM_RopeOp : SLM_Op<"rope", [Pure]> {
  let summary = "rotary embedding by the row's position";
  let description = [{
    cos and sin are tables [positions, rotary_dim / 2]. Within each head of head_dim columns, pairs (i, i + rotary_dim / 2), or
    (2i, 2i + 1) if interleaved, become (a cos - b sin, b cos + a sin); columns from rotary_dim on stay.
  }];
  let arguments = (ins SLM_Rows:$input, SLM_WeightTensor:$cos, SLM_WeightTensor:$sin, I64Attr:$head_dim, I64Attr:$rotary_dim,
                       DefaultValuedAttr<BoolAttr, "false">:$interleaved);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = [{
    $input `,` $cos `,` $sin attr-dict `:` type($input) `,` type($cos) `,` type($sin) `->` type($result)
  }];
  let hasVerifier = 1;
}

def SLM_RotaryTableOp : SLM_Op<"rotary_table", [Pure]> {
  let summary = "cos or sin table computed by the compiler: f(position * inv_freq[i]) * factor";
  let description = [{
    For graphs that compute the angles themselves: inv_freq is the graph's own constant [1, rotary_dim / 2]. Evaluated in
    double, rounded to float once, for as many positions as the artifact supports.
  }];
  let arguments = (ins DenseF64ArrayAttr:$inv_freq, BoolAttr:$is_sin, DefaultValuedAttr<F64Attr, "1.0">:$factor);
  let results = (outs SLM_WeightTensor:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
}

def SLM_JoinOp : SLM_Op<"join", [Pure]> {
  let summary = "one vector [1, N] made of several that lie apart in the file: the bias of merged linears";
  let arguments = (ins Variadic<SLM_WeightTensor>:$parts);
  let results = (outs SLM_WeightTensor:$result);
  let assemblyFormat = "`[` $parts `]` attr-dict `:` `[` type($parts) `]` `->` type($result)";
  let hasVerifier = 1;
}

def SLM_AttentionOp : SLM_Op<"attention"> {
  let summary = "causal attention over the slot's cached positions, after appending this step's keys and values";
  let description = [{
    q [T, heads * head_dim], k and v [T, kv_heads * head_dim]; score = softcap(scale * q.k); query head h reads kv head
    h / (heads / kv_heads). window w > 0: position i sees (i - w, i]. `bidirectional`: it sees all tokens of its slot, which
    are all in this step, of a window (i - w, i + w). `layer` numbers the cache.
    `slopes`, one a query head, add slope * (position of the key - position of the query) to the score (ALiBi,
    https://arxiv.org/abs/2108.12409).
  }];
  let arguments = (ins SLM_Rows:$query, SLM_Rows:$key, SLM_Rows:$value, I64Attr:$heads, I64Attr:$kv_heads, I64Attr:$head_dim,
                       F64Attr:$scale, DefaultValuedAttr<F64Attr, "0.0">:$softcap, DefaultValuedAttr<I64Attr, "0">:$window,
                       I64Attr:$layer, DefaultValuedAttr<BoolAttr, "false">:$bidirectional,
                       OptionalAttr<DenseF64ArrayAttr>:$slopes);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = [{
    $query `,` $key `,` $value attr-dict `:` type($query) `,` type($key) `,` type($value) `->` type($result)
  }];
  let hasVerifier = 1;
}

def SLM_GatedOp : SLM_Op<"gated", [Pure, SameOperandsAndResultType]> {
  let summary = "y = kind(gate) * up";
  let arguments = (ins SLM_Rows:$gate, SLM_Rows:$up, SLM_ActivationKind:$kind);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = "$kind $gate `,` $up attr-dict `:` type($result)";
}

def SLM_ActivationOp : SLM_Op<"activation", [Pure, SameOperandsAndResultType]> {
  let summary = "y = kind(x)";
  let arguments = (ins SLM_Rows:$input, SLM_ActivationKind:$kind);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = "$kind $input attr-dict `:` type($result)";
}

class SLM_BinaryOp<string mnemonic, string text> : SLM_Op<mnemonic, [Pure, SameOperandsAndResultType]> {
  let summary = text;
  let arguments = (ins SLM_Rows:$lhs, SLM_Rows:$rhs);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($result)";
}
def SLM_AddOp : SLM_BinaryOp<"add", "y = a + b">;
def SLM_MulOp : SLM_BinaryOp<"mul", "y = a * b">;

def SLM_ScaleOp : SLM_Op<"scale", [Pure, SameOperandsAndResultType]> {
  let summary = "y = factor * x";
  let arguments = (ins SLM_Rows:$input, F64Attr:$factor);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = "$input attr-dict `:` type($result)";
}

def SLM_SoftcapOp : SLM_Op<"softcap", [Pure, SameOperandsAndResultType]> {
  let summary = "y = cap * tanh(x / cap)";
  let arguments = (ins SLM_Rows:$input, F64Attr:$cap);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = "$input attr-dict `:` type($result)";
}

def SLM_SliceOp : SLM_Op<"slice", [Pure]> {
  let summary = "y = x[:, first : first + width of y]";
  let arguments = (ins SLM_Rows:$input, I64Attr:$first);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def SLM_SelectRowsOp : SLM_Op<"select_rows", [Pure, SameOperandsAndResultType]> {
  let summary = "keeps the rows whose logits are asked for; everything after it runs on those rows only";
  let arguments = (ins SLM_Rows:$input);
  let results = (outs SLM_Rows:$result);
  let assemblyFormat = "$input attr-dict `:` type($result)";
}

// The lowered program: one kernel call by every thread, then a barrier (runtime/artifact/format.h, Instruction).
def SLM_CallOp : SLM_Op<"call"> {
  let summary = "one instruction of the program: kernels for one row and for many, and eight operands";
  let description = [{
    operands holds pairs (OperandKind, value) of format.h. An empty kernel name means nothing to do for that row count.
  }];
  let arguments = (ins StrAttr:$one, StrAttr:$many, I32Attr:$domain, I32Attr:$label, DenseI64ArrayAttr:$args);
  let assemblyFormat = "$one `,` $many attr-dict";
}

#endif // SMELT_COMPILER_DIALECT_SLM_TD
