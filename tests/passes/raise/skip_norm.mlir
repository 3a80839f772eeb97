// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// CHECK-LABEL: func.func @main
// CHECK: %[[S:.*]] = slm.add
// CHECK: %[[N:.*]] = slm.rms_norm %[[S]]
// CHECK: slm.mul %{{.*}}, %{{.*}}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %n:4 = onnx.node "SkipSimplifiedLayerNormalization" "n"(%x, %x, %w) {epsilon = 1.0E-6 : f32} attributes {domain = "com.microsoft"} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>, tensor<32xf32>) -> (tensor<?x?x32xf32>, none, none, tensor<?x?x32xf32>)
  %y = onnx.node "Mul" "y"(%n#0, %n#3) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: onnx.node "SkipSimplifiedLayerNormalization"{{.*}}raise.why = "it has a bias input"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %n:4 = onnx.node "SkipSimplifiedLayerNormalization" "n"(%x, %x, %w, %w) {epsilon = 1.0E-6 : f32} attributes {domain = "com.microsoft"} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>, tensor<32xf32>, tensor<32xf32>) -> (tensor<?x?x32xf32>, none, none, tensor<?x?x32xf32>)
  return %n#0 : tensor<?x?x32xf32>
}
}
