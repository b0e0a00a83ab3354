// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/talk.h"

#include <algorithm>
#include <optional>

#include "orchestrator/experiment/or_null.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kAccepts = 0.5;
constexpr size_t kRocPointsMax = 64;

Json FlipsJson(const std::string& arm, const std::vector<stats::Revision>& revisions) {
  const stats::Flips flips = stats::CountFlips(revisions);
  return {{"arm", arm},
          {"stayed_right", flips.stayed_right},
          {"right_to_wrong", flips.right_to_wrong},
          {"wrong_to_right", flips.wrong_to_right},
          {"stayed_wrong", flips.stayed_wrong},
          {"kept", OrNull(flips.kept)},
          {"corrected", OrNull(flips.corrected)},
          {"conformity", OrNull(flips.conformity)},
          {"net", flips.net},
          {"p_mid", flips.p_mid}};
}

Json RocJson(const std::vector<stats::RocPoint>& roc) {
  Json points = Json::array();
  const size_t step = std::max<size_t>(1, (roc.size() + kRocPointsMax - 1) / kRocPointsMax);
  for (size_t i = 0; i < roc.size(); ++i) {
    if (i % step == 0 || i + 1 == roc.size()) points.push_back({roc[i].false_positive, roc[i].true_positive});
  }
  return points;
}

}  // namespace

void TalkGatherer::Add(const std::string& arm, const Talk& talk) {
  if (std::find(arms_.begin(), arms_.end(), arm) == arms_.end()) arms_.push_back(arm);
  if (!talk.revisions.empty()) {
    auto& all = revisions_[arm];
    all.insert(all.end(), talk.revisions.begin(), talk.revisions.end());
  }
  for (const Talk::Score& score : talk.scores) {
    Judged& judged = judged_[{arm, score.node}];
    if (score.right) {
      judged.judgements.push_back({score.score, *score.right, score.score >= kAccepts});
    } else {
      ++judged.unmatched;
    }
  }
}

void TalkGatherer::AddTo(Json* summary) const {
  Json& flips = (*summary)["flips"] = Json::array();
  for (const std::string& arm : arms_) {
    if (const auto it = revisions_.find(arm); it != revisions_.end()) flips.push_back(FlipsJson(arm, it->second));
  }
  Json& verifiers = (*summary)["verifiers"] = Json::array();
  for (const auto& [key, judged] : judged_) {
    const stats::VerifierQuality quality = stats::JudgeTheJudge(judged.judgements);
    verifiers.push_back({{"arm", key.first},
                         {"node", key.second},
                         {"right", quality.right},
                         {"wrong", quality.wrong},
                         {"unmatched", judged.unmatched},
                         {"true_positive", OrNull(quality.true_positive)},
                         {"true_positive95", OrNull(quality.true_positive95)},
                         {"false_positive", OrNull(quality.false_positive)},
                         {"false_positive95", OrNull(quality.false_positive95)},
                         {"auc", OrNull(quality.auc)},
                         {"auc_se", OrNull(quality.auc_se)},
                         {"roc", RocJson(quality.roc)}});
  }
}

}  // namespace conclave::experiment
