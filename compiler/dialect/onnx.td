// The import dialect: one generic op that holds any ONNX node as it stands in the file.
#ifndef SMELT_COMPILER_DIALECT_ONNX_TD
#define SMELT_COMPILER_DIALECT_ONNX_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def ONNX_Dialect : Dialect {
  let name = "onnx";
  let cppNamespace = "::smelt::onnx_ir";
  let summary = "ONNX nodes, one to one";
}

class ONNX_Op<string mnemonic, list<Trait> traits = []> : Op<ONNX_Dialect, mnemonic, traits>;

def ONNX_NodeOp : ONNX_Op<"node", [Pure]> {
  let summary = "any ONNX node: type, domain, name, attributes; regions are its sub-graphs";
  let description = [{
    An omitted optional input is the result of `onnx.none`. Tensors have the types that shape inference found, unranked where
    it found none.
  }];
  let arguments = (ins Variadic<AnyType>:$inputs, StrAttr:$type, DefaultValuedStrAttr<StrAttr, "">:$domain, StrAttr:$name,
                       DictionaryAttr:$node_attributes);
  let results = (outs Variadic<AnyType>:$outputs);
  let regions = (region VariadicRegion<AnyRegion>:$bodies);
  let assemblyFormat = [{
    $type $name `(` $inputs `)` $node_attributes attr-dict-with-keyword ($bodies^)? `:` functional-type($inputs, $outputs)
  }];
}

def ONNX_NoneOp : ONNX_Op<"none", [Pure]> {
  let summary = "an optional input that is not given";
  let results = (outs NoneType:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
}

def ONNX_YieldOp : ONNX_Op<"yield", [Terminator]> {
  let summary = "ends a sub-graph";
  let arguments = (ins Variadic<AnyType>:$values);
}

def ONNX_WeightOp : ONNX_Op<"weight", [Pure]> {
  let summary = "an initializer that stays in the file: row `id` of the weight store";
  let arguments = (ins I64Attr:$id, StrAttr:$name);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$name attr-dict `:` type($result)";
}

def ONNX_ConstantOp : ONNX_Op<"constant", [Pure]> {
  let summary = "a small tensor (at most 1 KiB) whose value takes part in folding";
  let description = [{
    `id` is its row of the weight store too, where it has one: a short norm weight is a constant and a weight.
  }];
  let arguments = (ins ElementsAttr:$value, StrAttr:$name, OptionalAttr<I64Attr>:$id);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$name $value attr-dict `:` type($result)";
}

def ONNX_RowsOp : ONNX_Op<"rows", [Pure]> {
  let summary = "a value of the model dialect seen as the tensor that the ONNX graph has in its place";
  let description = [{
    While a graph is being raised, its nodes read what is already raised through this op: `rows` is tensor<?xWxf32>, one row a
    token, and `axes` says what each axis of the ONNX tensor is: -1 the batch, -2 the sequence, -3 batch and sequence flattened,
    n > 0 a factor of the W columns, outer factors first. [B, S, H, D] of a 576-wide value is [-1, -2, 9, 64].
  }];
  let arguments = (ins AnyRankedTensor:$rows, DenseI64ArrayAttr:$axes);
  let results = (outs AnyType:$result);
  let assemblyFormat = "$rows $axes attr-dict `:` type($rows) `->` type($result)";
}

#endif // SMELT_COMPILER_DIALECT_ONNX_TD
