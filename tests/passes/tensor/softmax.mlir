// RUN: smelt-opt %s --tensorize --check-tensor --split-input-file | FileCheck %s

// e^(x - max) / sum over one axis
// CHECK-LABEL: func.func @main
// CHECK: %[[M:.*]] = onnx.node "ReduceMax" "y"(%arg0) {axes = array<i64: 1>, keepdims = 1 : i64}
// CHECK: %[[D:.*]] = onnx.node "Sub" "y"(%arg0, %[[M]])
// CHECK: %[[E:.*]] = onnx.node "Exp" "y"(%[[D]])
// CHECK: %[[S:.*]] = onnx.node "ReduceSum" "y"(%[[E]]) {axes = array<i64: 1>, keepdims = 1 : i64}
// CHECK: %[[Y:.*]] = onnx.node "Div" "y"(%[[E]], %[[S]])
// CHECK: return %[[Y]]
module attributes {onnx.opsets = {ai.onnx = 13 : i64}} {
func.func @main(%x: tensor<?x5x?xf16> {onnx.name = "x"}) -> (tensor<?x5x?xf16>) {
  %y = onnx.node "Softmax" "y"(%x) {axis = 1 : i64} : (tensor<?x5x?xf16>) -> tensor<?x5x?xf16>
  return %y : tensor<?x5x?xf16>
}
}

// -----

// Before opset 13 all axes from the given one on are one: the sum runs over the last of two axes.
// CHECK-LABEL: func.func @main
// CHECK: %[[F:.*]] = onnx.node "Flatten" "y"(%arg0) {axis = 1 : i64}
// CHECK: onnx.node "ReduceMax" "y"(%[[F]]) {axes = array<i64: 1>, keepdims = 1 : i64}
// CHECK: onnx.node "Reshape"
module attributes {onnx.opsets = {ai.onnx = 11 : i64}} {
func.func @main(%x: tensor<?x5x?xf32> {onnx.name = "x"}) -> (tensor<?x5x?xf32>) {
  %y = onnx.node "Softmax" "y"(%x) {} : (tensor<?x5x?xf32>) -> tensor<?x5x?xf32>
  return %y : tensor<?x5x?xf32>
}
}
