// RUN: not smelt-opt %s --tensorize --check-tensor --split-input-file 2>&1 | FileCheck %s

// All nodes that cannot run are named, each with its reason; those that only read them are counted.
// CHECK: the graph cannot run as it stands: 2 nodes are not supported (1 more read them)
// CHECK: "a" custom.domain::Mystery: there is no way to run this op
// CHECK: "c" ai.onnx::Unsqueeze: its axes are computed when the model runs; only constants are supported
module {
func.func @main(%x: tensor<?x?xf32> {onnx.name = "x"}, %axes: tensor<1xi64> {onnx.name = "axes"}) -> (tensor<*xf32>, tensor<*xf32>) {
  %a = onnx.node "Mystery" "a"(%x) {} attributes {domain = "custom.domain"} : (tensor<?x?xf32>) -> tensor<*xf32>
  %b = onnx.node "Exp" "b"(%a) {} : (tensor<*xf32>) -> tensor<*xf32>
  %c = onnx.node "Unsqueeze" "c"(%x, %axes) {} : (tensor<?x?xf32>, tensor<1xi64>) -> tensor<*xf32>
  return %b, %c : tensor<*xf32>, tensor<*xf32>
}
}

// -----

// A value whose rank nothing tells.
// CHECK: "y" ai.onnx::Reshape: the rank of its result is not known
module {
func.func @main(%x: tensor<?x?xf32> {onnx.name = "x"}, %shape: tensor<?xi64> {onnx.name = "shape"}) -> (tensor<*xf32>) {
  %y = onnx.node "Reshape" "y"(%x, %shape) {} : (tensor<?x?xf32>, tensor<?xi64>) -> tensor<*xf32>
  return %y : tensor<*xf32>
}
}
