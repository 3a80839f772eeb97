// The protobuf wire format (https://protobuf.dev/programming-guides/encoding), read only as deep as
// initializers lie.
#include "compiler/onnx/wire.h"

#include <optional>

namespace smelt {
namespace {

constexpr uint32_t modelGraph = 7, graphInitializer = 5, tensorDataType = 2, tensorFloatData = 4,
                   tensorRawData = 9, tensorLocation = 14;
constexpr uint64_t dataTypeFloat = 1, locationExternal = 1;
constexpr uint32_t wireVarint = 0, wire64 = 1, wireBytes = 2, wire32 = 5;

/// One field: where it begins (tag and all) and where its payload lies.
struct Field {
  uint32_t number = 0;
  uint32_t wire = 0;
  uint64_t begin = 0;   ///< of the tag
  uint64_t payload = 0; ///< of the content
  uint64_t end = 0;
  uint64_t value = 0; ///< of a varint
};

class Cursor {
public:
  Cursor(std::span<const std::byte> bytes, uint64_t begin, uint64_t end)
      : bytes(bytes), at(begin), end(end) {}

  bool done() const { return at == end; }

  /// The next field, or nothing if the bytes are not protobuf.
  std::optional<Field> next() {
    Field field;
    field.begin = at;
    std::optional<uint64_t> tag = varint();
    if (!tag || (*tag >> 3) == 0 || (*tag >> 3) > (1u << 29))
      return std::nullopt;
    field.number = uint32_t(*tag >> 3);
    field.wire = uint32_t(*tag & 7);
    field.payload = at;
    uint64_t length = 0;
    if (field.wire == wireVarint) {
      std::optional<uint64_t> value = varint();
      if (!value)
        return std::nullopt;
      field.value = *value;
    } else if (field.wire == wireBytes) {
      std::optional<uint64_t> size = varint();
      if (!size)
        return std::nullopt;
      length = *size;
      field.payload = at;
    } else if (field.wire == wire64) {
      length = 8;
    } else if (field.wire == wire32) {
      length = 4;
    } else {
      return std::nullopt;
    }
    if (length > end - at)
      return std::nullopt;
    at += length;
    field.end = at;
    return field;
  }

private:
  std::optional<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at == end)
        return std::nullopt;
      uint64_t byte = uint64_t(bytes[at++]);
      value |= (byte & 0x7f) << shift;
      if (!(byte & 0x80))
        return value;
    }
    return std::nullopt;
  }

  std::span<const std::byte> bytes;
  uint64_t at, end;
};

void copy(std::span<const std::byte> bytes, uint64_t begin, uint64_t end, std::string &out) {
  out.append(reinterpret_cast<const char *>(bytes.data() + begin), end - begin);
}

void appendVarint(uint64_t value, std::string &out) {
  for (; value >= 0x80; value >>= 7)
    out.push_back(char(value | 0x80));
  out.push_back(char(value));
}

/// Decides whether the TensorProto in `field` stays in the skeleton; if not, appends it to
/// `tensors`.
Result<bool> takeTensor(std::span<const std::byte> bytes, const Field &field, uint64_t limit,
                        std::vector<ScannedTensor> &tensors) {
  Cursor cursor(bytes, field.payload, field.end);
  ScannedTensor tensor;
  uint64_t dataType = 0;
  int chunks = 0;
  bool isPackedFloat = false;
  while (!cursor.done()) {
    std::optional<Field> part = cursor.next();
    if (!part)
      return corrupt("an initializer at byte " + std::to_string(field.begin) + " is not protobuf");
    bool isData = part->wire == wireBytes &&
                  (part->number == tensorRawData || part->number == tensorFloatData);
    if (isData) {
      ++chunks;
      isPackedFloat = part->number == tensorFloatData;
      tensor.dataOffset = part->payload;
      tensor.dataBytes = part->end - part->payload;
      continue;
    }
    if (part->number == tensorDataType && part->wire == wireVarint)
      dataType = part->value;
    if (part->number == tensorLocation && part->wire == wireVarint)
      tensor.isExternal = part->value == locationExternal;
    copy(bytes, part->begin, part->end, tensor.header);
  }
  // Floats packed in float_data are little-endian already; every other typed field needs protobuf's
  // decoding.
  bool isMappable =
      chunks == 1 && tensor.dataBytes > limit && (!isPackedFloat || dataType == dataTypeFloat);
  if (!tensor.isExternal && !isMappable)
    return false;
  tensors.push_back(std::move(tensor));
  return true;
}

} // namespace

Result<ScannedModel> scanModel(std::span<const std::byte> bytes, uint64_t limit) {
  ScannedModel model;
  Cursor cursor(bytes, 0, bytes.size());
  while (!cursor.done()) {
    std::optional<Field> field = cursor.next();
    if (!field)
      return corrupt("not protobuf, or truncated: a field does not fit the file of " +
                     std::to_string(bytes.size()) + " bytes");
    if (field->number != modelGraph || field->wire != wireBytes) {
      copy(bytes, field->begin, field->end, model.skeleton);
      continue;
    }
    std::string graph;
    Cursor inner(bytes, field->payload, field->end);
    while (!inner.done()) {
      std::optional<Field> part = inner.next();
      if (!part)
        return corrupt("the graph at byte " + std::to_string(field->begin) +
                       " is not protobuf, or truncated");
      if (part->number == graphInitializer && part->wire == wireBytes) {
        SMELT_ASSIGN(bool taken, takeTensor(bytes, *part, limit, model.tensors));
        if (taken)
          continue;
      }
      copy(bytes, part->begin, part->end, graph);
    }
    model.skeleton.push_back(char(modelGraph << 3 | wireBytes));
    appendVarint(graph.size(), model.skeleton);
    model.skeleton += graph;
  }
  return model;
}

} // namespace smelt
