// SPDX-License-Identifier: Apache-2.0
// Macros and the `loop` variable, as values a template can pass around. Both live no longer than their rendering.
#pragma once

#include <optional>

#include "common/jinja/evaluator.h"
#include "common/jinja/object.h"

namespace conclave::jinja {

class Macro final : public Object {
 public:
  Macro(Evaluator& evaluator, const MacroDefinition& definition, Activation* closure)
      : evaluator_(evaluator), definition_(definition), closure_(closure) {}
  std::string_view TypeName() const override { return "Macro"; }
  std::string_view QualifiedTypeName() const override { return "jinja2.runtime.Macro"; }
  bool IsCallable() const override { return true; }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override;
  absl::StatusOr<Value> Call(Runtime& runtime, Arguments& arguments) override;
  absl::Status Repr(Runtime& runtime, TextBuilder& out) const override;

 private:
  Evaluator& evaluator_;
  const MacroDefinition& definition_;
  Activation* closure_;
};

class Loop final : public Object, public std::enable_shared_from_this<Loop> {
 public:
  // `definition`: where a recursive loop was met; null when the loop is not recursive.
  Loop(Evaluator& evaluator, Evaluator::LoopSource source, Activation* definition, int64_t depth);
  std::string_view TypeName() const override { return "LoopContext"; }
  std::string_view QualifiedTypeName() const override { return "jinja2.runtime.LoopContext"; }
  bool IsCallable() const override { return true; }
  int depth() const override { return container_depth_; }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override;
  // loop(children): the same loop, one level down.
  absl::StatusOr<Value> Call(Runtime& runtime, Arguments& arguments) override;
  absl::StatusOr<std::optional<int64_t>> Length(Runtime& runtime) override;
  absl::Status Repr(Runtime& runtime, TextBuilder& out) const override;

  // Goes on to the next item; false at the end.
  absl::StatusOr<bool> Advance(Value* item);
  // The loop is over: forgets what changed() was last given, which may be the loop itself.
  void Finish() { last_changed_.reset(); }

 private:
  absl::StatusOr<bool> Peek();
  absl::StatusOr<int64_t> Count();
  absl::StatusOr<Value> Cycle(Arguments& arguments) const;
  absl::StatusOr<Value> Changed(Arguments& arguments);

  Evaluator& evaluator_;
  Evaluator::LoopSource source_;
  Activation* definition_;
  int64_t depth0_;
  int64_t index0_ = -1;
  std::optional<int64_t> length_;
  std::vector<Value> rest_;  // items read ahead to count them
  size_t rest_next_ = 0;
  bool rest_read_ = false;
  bool has_after_ = false;
  Value after_, current_, before_;
  std::optional<Value> last_changed_;
  int container_depth_ = 1;
};

}  // namespace conclave::jinja
