// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// Zeroes where the mask has padding: no row is padding.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>)
// CHECK: %[[X:.*]] = slm.embedding
// CHECK-NEXT: %[[Y:.*]] = slm.select_rows %[[X]]
// CHECK-NEXT: return %[[Y]]
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %last = onnx.constant "last" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %sh = onnx.node "Shape" "sh"(%ids) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %neg = onnx.node "Neg" "neg"(%sh) {} : (tensor<1xi64>) -> tensor<1xi64>
  %end = onnx.constant "end" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %own = onnx.node "Slice" "own"(%mask, %neg, %end, %one) {} : (tensor<?x?xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x?xi64>
  %own3 = onnx.node "Unsqueeze" "own3"(%own, %last) {} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?x?x1xi64>
  %token = onnx.node "Cast" "token"(%own3) {to = 9 : i64} : (tensor<?x?x1xi64>) -> tensor<?x?x1xi1>
  %c = onnx.node "Not" "c"(%token) {} : (tensor<?x?x1xi1>) -> tensor<?x?x1xi1>
  %y = onnx.node "Where" "y"(%c, %zero, %x) {} : (tensor<?x?x1xi1>, tensor<f32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>)
// CHECK: %[[X:.*]] = slm.embedding
// CHECK-NEXT: %[[Y:.*]] = slm.select_rows %[[X]]
// CHECK-NEXT: return %[[Y]]
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %last = onnx.constant "last" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %sh = onnx.node "Shape" "sh"(%ids) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %neg = onnx.node "Neg" "neg"(%sh) {} : (tensor<1xi64>) -> tensor<1xi64>
  %end = onnx.constant "end" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %own = onnx.node "Slice" "own"(%mask, %neg, %end, %one) {} : (tensor<?x?xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x?xi64>
  %own3 = onnx.node "Unsqueeze" "own3"(%own, %last) {} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?x?x1xi64>
  %token = onnx.node "Cast" "token"(%own3) {to = 9 : i64} : (tensor<?x?x1xi64>) -> tensor<?x?x1xi1>
  %y = onnx.node "Where" "y"(%token, %x, %zero) {} : (tensor<?x?x1xi1>, tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Zeroes at the tokens themselves.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Where" "y"{{.*}}raise.why = "the condition also selects at real tokens"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %last = onnx.constant "last" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %sh = onnx.node "Shape" "sh"(%ids) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %neg = onnx.node "Neg" "neg"(%sh) {} : (tensor<1xi64>) -> tensor<1xi64>
  %end = onnx.constant "end" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %own = onnx.node "Slice" "own"(%mask, %neg, %end, %one) {} : (tensor<?x?xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x?xi64>
  %own3 = onnx.node "Unsqueeze" "own3"(%own, %last) {} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?x?x1xi64>
  %token = onnx.node "Cast" "token"(%own3) {to = 9 : i64} : (tensor<?x?x1xi64>) -> tensor<?x?x1xi1>
  %y = onnx.node "Where" "y"(%token, %zero, %x) {} : (tensor<?x?x1xi1>, tensor<f32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}
