// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// Parts of unequal size.
// CHECK-LABEL: func.func @main
// CHECK: slm.slice %{{.*}} {first = 8 : i64} : tensor<?x32xf32> -> tensor<?x24xf32>
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x24xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %sizes = onnx.constant "sizes" dense<[8, 24]> : tensor<2xi64> : tensor<2xi64>
  %a:2 = onnx.node "Split" "a"(%x, %sizes) {axis = -1 : i64} : (tensor<?x?x32xf32>, tensor<2xi64>) -> (tensor<?x?x8xf32>, tensor<?x?x24xf32>)
  return %a#1 : tensor<?x?x24xf32>
}
}

// -----

// Reshapes and transposes that undo each other vanish.
// CHECK-LABEL: func.func @main
// CHECK-NEXT: slm.weight
// CHECK-NEXT: %[[X:.*]] = slm.embedding
// CHECK-NEXT: slm.select_rows %[[X]]
// CHECK-NEXT: return
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %h = onnx.node "Reshape" "h"(%x, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %t = onnx.node "Transpose" "t"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %u = onnx.node "Transpose" "u"(%t) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Columns permuted within the row are no view.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Reshape" "y"{{.*}}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %h = onnx.node "Reshape" "h"(%x, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %t = onnx.node "Transpose" "t"(%h) {perm = array<i64: 0, 1, 3, 2>} : (tensor<?x?x2x16xf32>) -> tensor<?x?x16x2xf32>
  %y = onnx.node "Reshape" "y"(%t, %s3) {allowzero = 0 : i64} : (tensor<?x?x16x2xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Every other column.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Slice" "y"{{.*}}raise.why = "it is not a view of whole column ranges"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %from = onnx.constant "from" dense<0> : tensor<1xi64> : tensor<1xi64>
  %to = onnx.constant "to" dense<32> : tensor<1xi64> : tensor<1xi64>
  %axis = onnx.constant "axis" dense<2> : tensor<1xi64> : tensor<1xi64>
  %step = onnx.constant "step" dense<2> : tensor<1xi64> : tensor<1xi64>
  %y = onnx.node "Slice" "y"(%x, %from, %to, %axis, %step) {} : (tensor<?x?x32xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x?x16xf32>
  return %y : tensor<?x?x16xf32>
}
}
