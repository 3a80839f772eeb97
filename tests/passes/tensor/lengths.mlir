// RUN: smelt-opt %s --tensorize --check-tensor --split-input-file | FileCheck %s

// Two lengths that go back to one dimension are equal, so the branch is chosen here.
// CHECK-LABEL: func.func @main
// CHECK-NOT: "If"
// CHECK: %[[E:.*]] = onnx.node "Exp" "t"(%arg0)
// CHECK: return %[[E]]
module {
func.func @main(%x: tensor<?x?xf32> {onnx.name = "x"}) -> (tensor<?x?xf32>) {
  %one = onnx.constant "one" dense<1> : tensor<i64> : tensor<i64>
  %zero = onnx.constant "zero" dense<0> : tensor<i64> : tensor<i64>
  %t = onnx.node "Transpose" "tr"(%x) {perm = array<i64: 1, 0>} : (tensor<?x?xf32>) -> tensor<?x?xf32>
  %s1 = onnx.node "Shape" "s1"(%x) {} : (tensor<?x?xf32>) -> tensor<2xi64>
  %s2 = onnx.node "Shape" "s2"(%t) {} : (tensor<?x?xf32>) -> tensor<2xi64>
  %a = onnx.node "Gather" "a"(%s1, %one) {} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %b = onnx.node "Gather" "b"(%s2, %zero) {} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %c = onnx.node "Equal" "c"(%a, %b) {} : (tensor<i64>, tensor<i64>) -> tensor<i1>
  %y = onnx.node "If" "if"(%c) {else_branch = 1 : i64, then_branch = 0 : i64} {
    %e = onnx.node "Exp" "t"(%x) {} : (tensor<?x?xf32>) -> tensor<?x?xf32>
    "onnx.yield"(%e) : (tensor<?x?xf32>) -> ()
  }, {
    %e = onnx.node "Neg" "e"(%x) {} : (tensor<?x?xf32>) -> tensor<?x?xf32>
    "onnx.yield"(%e) : (tensor<?x?xf32>) -> ()
  } : (tensor<i1>) -> tensor<?x?xf32>
  return %y : tensor<?x?xf32>
}
}

// -----

// Near miss: the lengths of two axes may differ.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Equal"
// CHECK: onnx.node "If"
module {
func.func @main(%x: tensor<?x?xf32> {onnx.name = "x"}) -> (tensor<?x?xf32>) {
  %one = onnx.constant "one" dense<1> : tensor<i64> : tensor<i64>
  %zero = onnx.constant "zero" dense<0> : tensor<i64> : tensor<i64>
  %s1 = onnx.node "Shape" "s1"(%x) {} : (tensor<?x?xf32>) -> tensor<2xi64>
  %a = onnx.node "Gather" "a"(%s1, %one) {} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %b = onnx.node "Gather" "b"(%s1, %zero) {} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %c = onnx.node "Equal" "c"(%a, %b) {} : (tensor<i64>, tensor<i64>) -> tensor<i1>
  %y = onnx.node "If" "if"(%c) {else_branch = 1 : i64, then_branch = 0 : i64} {
    %e = onnx.node "Exp" "t"(%x) {} : (tensor<?x?xf32>) -> tensor<?x?xf32>
    "onnx.yield"(%e) : (tensor<?x?xf32>) -> ()
  }, {
    %e = onnx.node "Neg" "e"(%x) {} : (tensor<?x?xf32>) -> tensor<?x?xf32>
    "onnx.yield"(%e) : (tensor<?x?xf32>) -> ()
  } : (tensor<i1>) -> tensor<?x?xf32>
  return %y : tensor<?x?xf32>
}
}
