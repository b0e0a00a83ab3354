// SPDX-License-Identifier: Apache-2.0
// Plans: a text whose items become utterances of their own, each of which others can take up.
#include <utility>

#include "orchestrator/run/machine_impl.h"

namespace conclave::orchestrator {

int32_t Machine::Impl::AddItems(const Utterance& whole, const std::vector<PlanItem>& items) {
  const auto first = static_cast<int32_t>(values_.utterances.size());
  for (size_t i = 0; i < items.size(); ++i) {
    Utterance item;
    item.node = whole.node;
    item.member = item.author = whole.member;
    item.sample = item.author_sample = whole.sample;
    item.round = whole.round;
    item.about = whole.about;
    // What the plan cost is counted once, with its first item.
    item.output_tokens = i == 0 ? whole.output_tokens : 0;
    item.text = items[i].text;
    item.shown_size = item.text.size();
    item.item = items[i].id;
    for (const int32_t need : items[i].needs) item.needs.push_back(first + need);
    item.last_item = i + 1 == items.size();
    values_.Add(std::move(item));
  }
  return static_cast<int32_t>(items.size());
}

}  // namespace conclave::orchestrator
