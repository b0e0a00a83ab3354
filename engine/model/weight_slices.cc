// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weight_slices.h"

#include <cstring>

#include "common/check.h"
#include "common/status.h"

namespace conclave::engine {
namespace {

class LaterRows final : public quant::RowReader {
 public:
  LaterRows(const quant::RowReader* reader, int64_t skipped) : reader_(reader), skipped_(skipped) {}
  void Read(int64_t first, int64_t count, std::byte* out) const override {
    reader_->Read(skipped_ + first, count, out);
  }

 private:
  const quant::RowReader* const reader_;
  const int64_t skipped_;
};

class RowPieces final : public quant::RowReader {
 public:
  // Bytes offset .. offset + bytes of every row.
  RowPieces(const WeightSource& source, int64_t offset, int64_t bytes)
      : source_(source), row_bytes_(RowBytes(source.dtype, source.columns)), offset_(offset), bytes_(bytes) {}

  void Read(int64_t first, int64_t count, std::byte* out) const override {
    std::vector<std::byte> read;
    const std::byte* rows = source_.bytes.data() + first * row_bytes_;
    if (source_.reader != nullptr) {
      read.resize(static_cast<size_t>(count * row_bytes_));
      source_.reader->Read(first, count, read.data());
      rows = read.data();
    }
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(out + i * bytes_, rows + i * row_bytes_ + offset_, static_cast<size_t>(bytes_));
    }
  }

 private:
  const WeightSource source_;
  const int64_t row_bytes_, offset_, bytes_;
};

}  // namespace

WeightSource SliceRows(const WeightSource& source, Range rows, SliceReaders* readers) {
  CONCLAVE_CHECK(rows.first >= 0 && rows.end() <= source.rows);
  if (rows.count == source.rows) return source;
  WeightSource slice = source;
  slice.rows = rows.count;
  if (source.reader != nullptr) {
    readers->push_back(std::make_unique<LaterRows>(source.reader, rows.first));
    slice.reader = readers->back().get();
    return slice;
  }
  const int64_t row_bytes = RowBytes(source.dtype, source.columns);
  slice.bytes =
      source.bytes.subspan(static_cast<size_t>(rows.first * row_bytes), static_cast<size_t>(rows.count * row_bytes));
  return slice;
}

absl::StatusOr<WeightSource> SliceColumns(const WeightSource& source, Range columns, std::string_view name,
                                          SliceReaders* readers) {
  CONCLAVE_CHECK(columns.first >= 0 && columns.end() <= source.columns);
  if (columns.count == source.columns) return source;
  if (!source.order.empty()) {
    return Unimplemented(
        "tensor \"{}\": columns in an order of their own (act-order) cannot be split over ranks; take ranks 1", name);
  }
  const int64_t block = Traits(source.dtype).block_elements;
  if (columns.first % block != 0 || (columns.end() % block != 0 && columns.end() != source.columns)) {
    return Unimplemented(
        "tensor \"{}\": columns {} to {} of {} cannot be a rank's: {} has blocks of {}; take fewer ranks", name,
        columns.first, columns.end(), source.columns, Name(source.dtype), block);
  }
  const int64_t offset = RowBytes(source.dtype, columns.first);
  readers->push_back(std::make_unique<RowPieces>(source, offset, RowBytes(source.dtype, columns.end()) - offset));
  WeightSource slice = source;
  slice.columns = columns.count;
  slice.bytes = {};
  slice.reader = readers->back().get();
  return slice;
}

}  // namespace conclave::engine
