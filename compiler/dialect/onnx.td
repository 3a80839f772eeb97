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
  let arguments = (ins Variadic<AnyType>:$inputs, StrAttr:$type, StrAttr:$domain, StrAttr:$name,
                       DictionaryAttr:$node_attributes);
  let results = (outs Variadic<AnyType>:$outputs);
  let regions = (region VariadicRegion<AnyRegion>:$bodies);
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
  let arguments = (ins ElementsAttr:$value, StrAttr:$name);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$name $value attr-dict `:` type($result)";
}

#endif // SMELT_COMPILER_DIALECT_ONNX_TD
