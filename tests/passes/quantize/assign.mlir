// RUN: smelt-opt %s --slm-assign-scheme | FileCheck %s
// RUN: smelt-opt %s --slm-assign-scheme="decoder=s4g32 head=f32 activation=a8t" | FileCheck %s --check-prefix=MIXED
// RUN: not smelt-opt %s --slm-assign-scheme=decoder=q3 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// The head's weight is the table: the embedding is stored as the head is. Exact weights take exact inputs.
// UNKNOWN: unknown weight format 'q3', expected one of f32, s8c
// CHECK-LABEL: func.func @main
// MIXED-LABEL: func.func @main
func.func @main(%ids: tensor<?xi32>) -> tensor<?x48xf32> {
  %table = slm.weight "table" {id = 0 : i64, row_stride = 32 : i64} : tensor<48x32xf32>
  %w = slm.weight "w" {id = 1 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %again = slm.weight "table" {id = 0 : i64, row_stride = 32 : i64} : tensor<48x32xf32>
  // CHECK: slm.embedding {{.*}}format = "s8c"
  // MIXED: slm.embedding {{.*}}format = "f32"
  %x = slm.embedding %ids, %table {name = "embed"} : tensor<?xi32>, tensor<48x32xf32> -> tensor<?x32xf32>
  // CHECK: slm.linear {{.*}}activation = "a8g32", format = "a4g32", name = "body"
  // MIXED: slm.linear {{.*}}activation = "a8t", format = "s4g32", name = "body"
  %y = slm.linear %x, [%w] {name = "body"} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  // CHECK: slm.linear {{.*}}activation = "a8g32", format = "s8c", name = "head"
  // MIXED: slm.linear {{.*}}activation = "f32", format = "f32", name = "head"
  %l = slm.linear %y, [%again] {name = "head"} : tensor<?x32xf32>, [tensor<48x32xf32>] -> tensor<?x48xf32>
  return %l : tensor<?x48xf32>
}
