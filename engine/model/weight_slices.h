// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: the part of a matrix that one of several ranks holds.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/partition.h"
#include "engine/ops/ops.h"
#include "engine/quant/row_reader.h"

namespace conclave::engine {

// Keeps what slices read through. Until then the source's own reader must live, too.
using SliceReaders = std::vector<std::unique_ptr<const quant::RowReader>>;

// Rows `rows` of the source. All of them: the source itself.
WeightSource SliceRows(const WeightSource& source, Range rows, SliceReaders* readers);

// Columns `columns`. UNIMPLEMENTED for a border inside a block of the source's format, or for columns in another order
// than the activations'; `name` is the tensor's, for the message.
absl::StatusOr<WeightSource> SliceColumns(const WeightSource& source, Range columns, std::string_view name,
                                          SliceReaders* readers);

}  // namespace conclave::engine
