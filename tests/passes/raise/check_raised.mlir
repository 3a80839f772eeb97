// RUN: not smelt-opt %s --raise --check-raised --split-input-file 2>&1 | FileCheck %s

// Causes come first, with name, op, domain, shapes, reason and the closest pattern; then what depends on them.
// CHECK: error: 3 nodes were not raised to the model dialect, 1 of them for a reason of their own (listed first):
// CHECK-NEXT: "odd" com.example::Odd ([?, ?, 32] f32) -> ([?, ?, 32] f32): no pattern raises this use of the op; closest pattern: none
// CHECK-NEXT: "proj" ai.onnx::MatMul ([?, ?, 32] f32, [32, 48] f32) -> ([?, ?, 48] f32): its input from "odd" was not raised; closest pattern: linear
// CHECK-NEXT: "erf" ai.onnx::Erf
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x48xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %k = onnx.weight "k" {id = 1 : i64} : tensor<32x48xf32>
  %o = onnx.node "Odd" "odd"(%x) {} attributes {domain = "com.example"} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "MatMul" "proj"(%o, %k) {} : (tensor<?x?x32xf32>, tensor<32x48xf32>) -> tensor<?x?x48xf32>
  %z = onnx.node "Erf" "erf"(%y) {} : (tensor<?x?x48xf32>) -> tensor<?x?x48xf32>
  return %z : tensor<?x?x48xf32>
}
}

// -----

// CHECK: error: the graph is no language model: no output is computed from token ids row by row
module {
func.func @main(%a: tensor<?xf32>) -> (tensor<?xf32>) {
  return %a : tensor<?xf32>
}
}
