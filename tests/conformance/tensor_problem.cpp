// Reading of tensor problems, and their data.
#include "tests/conformance/tensor_problem.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <sstream>
#include <stdexcept>

namespace smelt::conformance {

using format::ElementType;

namespace {

constexpr const char *typeNames[] = {"f32", "f64", "i64", "i32", "i8", "u8", "bool"};

ElementType typeNamed(const std::string &name) {
  for (uint32_t i = 0; i < std::size(typeNames); ++i)
    if (name == typeNames[i])
      return ElementType(i);
  throw std::invalid_argument("unknown element type '" + name + "'");
}

bool isReal(ElementType type) { return type == ElementType::F32 || type == ElementType::F64; }

template <typename T> Wide readAs(const std::byte *at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return Wide(value);
}
template <typename T> void writeAs(std::byte *at, Wide v) {
  T value = T(v);
  std::memcpy(at, &value, sizeof value);
}

std::vector<Wide> numbers(const std::string &text) {
  std::vector<Wide> result;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');)
    result.push_back(std::stold(part));
  return result;
}

const Wide specials[] = {0.0L,    -0.0L,  1.0L,    -1.0L, 0.5L,   INFINITY, -INFINITY,
                         NAN,     1e-40L, -1e-40L, 3e38L, -3e38L, 88.5L,    -88.5L,
                         -100.0L, 104.0L, 1e-8L,   2.0L,  3.0L,   -2.5L};

TestTensor readOperand(const std::string &word, std::mt19937 &random) {
  TestTensor tensor;
  if (word == "none") {
    tensor.given = false;
    return tensor;
  }
  const size_t colon = word.find(':');
  const size_t behind = std::min(word.find('='), word.find('~'));
  tensor.type = typeNamed(word.substr(0, colon));
  std::istringstream dims(
      word.substr(colon + 1, behind == std::string::npos ? behind : behind - colon - 1));
  for (std::string part; std::getline(dims, part, 'x');)
    tensor.dims.push_back(std::stoll(part));
  const std::string data = behind == std::string::npos ? "" : word.substr(behind);

  const size_t count = size_t(tensor.count());
  if (data.starts_with("={")) {
    tensor.values = numbers(data.substr(2, data.size() - 3));
    if (tensor.values.size() != count)
      throw std::invalid_argument("another number of elements in " + word);
    return TestTensor::fromBytes(tensor.type, tensor.dims, tensor.bytes().data());
  }
  double low = -9, high = 9;
  if (tensor.type == ElementType::Bool || tensor.type == ElementType::U8)
    low = 0;
  if (tensor.type == ElementType::Bool)
    high = 1;
  if (data.starts_with("~") && data != "~special") {
    const size_t dots = data.find("..");
    low = double(std::stold(data.substr(1, dots - 1)));
    high = double(std::stold(data.substr(dots + 2)));
  }
  for (size_t i = 0; i < count; ++i)
    if (data == "~special")
      tensor.values.push_back(specials[random() % std::size(specials)]);
    else if (isReal(tensor.type))
      tensor.values.push_back(std::uniform_real_distribution<double>(low, high)(random));
    else
      tensor.values.push_back(
          Wide(std::uniform_int_distribution<int64_t>(int64_t(low), int64_t(high))(random)));
  // As the element type holds them.
  return TestTensor::fromBytes(tensor.type, tensor.dims, tensor.bytes().data());
}

ElementType outputType(const TensorProblem &p) {
  auto type = [&](size_t i) { return i < p.inputs.size() ? p.inputs[i].type : ElementType::F32; };
  switch (p.op) {
  case TensorOp::Equal:
  case TensorOp::Less:
  case TensorOp::LessOrEqual:
  case TensorOp::Greater:
  case TensorOp::GreaterOrEqual:
  case TensorOp::IsNaN:
  case TensorOp::IsInf:
    return ElementType::Bool;
  case TensorOp::Where:
    return type(1);
  case TensorOp::OneHot:
    return type(2);
  case TensorOp::ArgMax:
  case TensorOp::ArgMin:
  case TensorOp::Shape:
  case TensorOp::Size:
  case TensorOp::NonZero:
    return ElementType::I64;
  default:
    return type(0);
  }
}

/// Half the distance between neighbours of the type at `value`, times two.
Wide ulp(ElementType type, Wide value) {
  const int bits = type == ElementType::F32 ? 24 : 53,
            least = type == ElementType::F32 ? -149 : -1074;
  if (value == 0 || !std::isfinite(value))
    return std::ldexp(Wide(1), least);
  return std::ldexp(Wide(1), std::max(std::ilogb(value) - bits + 1, least));
}

} // namespace

size_t elementBytes(ElementType type) {
  constexpr size_t sizes[] = {4, 8, 8, 4, 1, 1, 1};
  return sizes[static_cast<uint32_t>(type)];
}

int64_t TestTensor::count() const {
  int64_t count = 1;
  for (int64_t d : dims)
    count *= d;
  return count;
}

std::vector<std::byte> TestTensor::bytes() const {
  std::vector<std::byte> result(values.size() * elementBytes(type));
  for (size_t i = 0; i < values.size(); ++i) {
    std::byte *at = result.data() + i * elementBytes(type);
    switch (type) {
    case ElementType::F32:
      writeAs<float>(at, values[i]);
      break;
    case ElementType::F64:
      writeAs<double>(at, values[i]);
      break;
    case ElementType::I64:
      writeAs<int64_t>(at, values[i]);
      break;
    case ElementType::I32:
      writeAs<int32_t>(at, values[i]);
      break;
    case ElementType::I8:
      writeAs<int8_t>(at, values[i]);
      break;
    default:
      writeAs<uint8_t>(at, values[i]);
    }
  }
  return result;
}

TestTensor TestTensor::fromBytes(ElementType type, const std::vector<int64_t> &dims,
                                 const std::byte *data) {
  TestTensor tensor{true, type, dims, {}, {}};
  for (int64_t i = 0; i < tensor.count(); ++i) {
    const std::byte *at = data + size_t(i) * elementBytes(type);
    switch (type) {
    case ElementType::F32:
      tensor.values.push_back(readAs<float>(at));
      break;
    case ElementType::F64:
      tensor.values.push_back(readAs<double>(at));
      break;
    case ElementType::I64:
      tensor.values.push_back(readAs<int64_t>(at));
      break;
    case ElementType::I32:
      tensor.values.push_back(readAs<int32_t>(at));
      break;
    case ElementType::I8:
      tensor.values.push_back(readAs<int8_t>(at));
      break;
    default:
      tensor.values.push_back(readAs<uint8_t>(at));
    }
  }
  return tensor;
}

TensorSpec TensorProblem::spec(bool isShape) const {
  TensorSpec spec;
  spec.op = op;
  spec.isShape = isShape;
  for (const auto *tensors : {&outputs, &inputs})
    for (const TestTensor &tensor : *tensors) {
      spec.types.push_back(tensor.type);
      spec.ranks.push_back(uint32_t(tensor.dims.size()));
      spec.given.push_back(tensor.given);
    }
  spec.ints = ints;
  spec.real = real;
  return spec;
}

TensorProblem makeTensorProblem(const std::string &line) {
  TensorProblem p;
  p.line = line;
  std::mt19937 random{20261122};
  std::istringstream words(line);
  std::string word, fault;
  words >> word;
  auto op = findTensorOp(word);
  if (!op)
    throw std::invalid_argument("unknown primitive '" + word + "'");
  p.op = *op;
  size_t rank = size_t(-1);
  std::string outName;
  while (words >> word) {
    const size_t equals = word.find('=');
    const std::string key = word.substr(0, equals), value = word.substr(equals + 1);
    if (word == "none" || word.find(':') < equals)
      p.inputs.push_back(readOperand(word, random));
    else if (key == "ints")
      for (Wide v : numbers(value))
        p.ints.push_back(int64_t(v));
    else if (key == "real")
      p.real = std::stod(value);
    else if (key == "ulps")
      p.ulps = std::stod(value);
    else if (key == "rank")
      rank = size_t(std::stoul(value));
    else if (key == "out")
      outName = value;
    else if (key == "fault" && (value == "shape" || value == "index"))
      p.fault = value == "shape" ? format::FaultShape : format::FaultIndex;
    else
      throw std::invalid_argument("cannot read '" + word + "'");
  }
  p.outputs.resize(tensorOpInfo(p.op).outputs);
  p.outputs[0].type = outName.empty() ? outputType(p) : typeNamed(outName);
  if (p.outputs.size() > 1)
    p.outputs[1].type = ElementType::I64;
  if (rank == size_t(-1)) // for references that need it, and for faults
    for (const TestTensor &input : p.inputs)
      p.outputs[0].dims.resize(std::max(p.outputs[0].dims.size(), input.dims.size()));
  else
    p.outputs[0].dims.resize(rank);

  const auto wanted = p.fault;
  try {
    computeReference(p);
    if (wanted != format::FaultNone)
      throw std::invalid_argument("the reference finds no fault: " + line);
  } catch (format::TensorFault found) {
    if (found != wanted)
      throw std::invalid_argument("the reference finds another fault: " + line);
    for (size_t i = 1; i < p.outputs.size(); ++i)
      p.outputs[i].dims = p.outputs[0].dims;
    return p;
  }
  for (TestTensor &output : p.outputs) {
    output.allowed.resize(output.values.size(), 0);
    if (isReal(output.type))
      for (size_t i = 0; i < output.values.size(); ++i)
        output.allowed[i] += Wide(p.ulps) * ulp(output.type, output.values[i]);
  }
  return p;
}

} // namespace smelt::conformance
