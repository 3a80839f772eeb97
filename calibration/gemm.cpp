// oneDNN's products behind our own interface.
#include "calibration/gemm.h"

#include <algorithm>
#include <array>
#include <dnnl.hpp>
#include <limits>
#include <map>

// libgomp, on which this oneDNN runs. Its header does not compile cleanly with clang, and this is
// all we use of it.
extern "C" void omp_set_num_threads(int);

namespace smelt {

namespace {

void useOneThread() {
  thread_local const bool alone = (omp_set_num_threads(1), true);
  (void)alone;
}

/// oneDNN refuses no shape that the graph check lets through; should memory run out, the result
/// must not pass for a value.
void fillWithNan(int64_t m, int64_t n, float *c, int64_t ldc) {
  for (int64_t i = 0; i < m; ++i)
    std::fill_n(c + i * ldc, n, std::numeric_limits<float>::quiet_NaN());
}

/// Shape and strides of a product: what its primitive is made for.
using Shape = std::array<int64_t, 8>;

const dnnl::engine &cpuEngine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::memory::desc describe(int64_t rows, int64_t cols, dnnl::memory::data_type type,
                            bool transposed, int64_t leading) {
  return {{rows, cols},
          type,
          transposed ? dnnl::memory::dims{1, leading} : dnnl::memory::dims{leading, 1}};
}

struct Product {
  dnnl::memory::desc a, b, c;
  dnnl::matmul primitive;
};

/// Primitives are made once per shape and thread; making one costs a tenth of a small product.
const Product &productOf(const Shape &shape) {
  constexpr size_t mostShapes = 256;
  thread_local std::map<Shape, Product> products;
  if (auto found = products.find(shape); found != products.end())
    return found->second;
  if (products.size() == mostShapes)
    products.clear();
  const auto [transposeA, transposeB, m, n, k, lda, ldb, ldc] = shape;
  using Type = dnnl::memory::data_type;
  Product product{describe(m, k, Type::bf16, transposeA, lda),
                  describe(k, n, Type::bf16, transposeB, ldb),
                  describe(m, n, Type::f32, false, ldc),
                  {}};
  product.primitive =
      dnnl::matmul({dnnl::matmul::desc(product.a, product.b, product.c), cpuEngine()});
  return products.emplace(shape, std::move(product)).first->second;
}

} // namespace

void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, float scale,
          const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc) {
  useOneThread();
  if (dnnl_sgemm(transposeA ? 'T' : 'N', transposeB ? 'T' : 'N', m, n, k, scale, a, lda, b, ldb,
                 0.0f, c, ldc) != dnnl_success)
    fillWithNan(m, n, c, ldc);
}

bool bfloat16IsFast() {
  static const bool fast =
      (unsigned(dnnl::get_effective_cpu_isa()) & unsigned(dnnl::cpu_isa::avx512_core_bf16)) ==
      unsigned(dnnl::cpu_isa::avx512_core_bf16);
  return fast;
}

void gemmBfloat16(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k,
                  const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb, float *c,
                  int64_t ldc) {
  useOneThread();
  try {
    thread_local dnnl::stream stream(cpuEngine());
    const Product &product = productOf({transposeA, transposeB, m, n, k, lda, ldb, ldc});
    // oneDNN takes operands that it only reads by plain pointers too.
    auto memory = [](const dnnl::memory::desc &desc, const void *data) {
      return dnnl::memory(desc, cpuEngine(), const_cast<void *>(data));
    };
    product.primitive.execute(stream, {{DNNL_ARG_SRC, memory(product.a, a)},
                                       {DNNL_ARG_WEIGHTS, memory(product.b, b)},
                                       {DNNL_ARG_DST, memory(product.c, c)}});
    stream.wait();
  } catch (const dnnl::error &) {
    fillWithNan(m, n, c, ldc);
  }
}

} // namespace smelt
