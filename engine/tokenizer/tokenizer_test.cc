// SPDX-License-Identifier: Apache-2.0
// Small vocabularies made here, worked out by hand.
#include "engine/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include "engine/tokenizer/byte_level.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using AddBos = Tokenizer::AddBos;
using Special = Tokenizer::Special;
using SpecialText = Tokenizer::SpecialText;

constexpr std::string_view kMark = "\xe2\x96\x81";

TokenId Add(VocabularyData* v, std::string text, TokenType type, float score = 0) {
  v->tokens.push_back(std::move(text));
  v->types.push_back(type);
  v->scores.push_back(score);
  return static_cast<TokenId>(v->tokens.size()) - 1;
}

// 256 bytes, then he=256 ll=257 hell=258 Ġhe=259 Ġ Ġ=260 and tokens of other types.
struct ByteLevelVocabulary {
  VocabularyData v;
  TokenId start, end, user, think, spaces;
  ByteLevelVocabulary() {
    v.source = "test";
    v.pre = "gpt-2";
    for (int b = 0; b < 256; ++b) {
      const char byte = static_cast<char>(b);
      Add(&v, EncodeByteLevel(std::string_view(&byte, 1)), TokenType::kNormal);
    }
    for (const char* text : {"he", "ll", "hell", "\xc4\xa0he", "\xc4\xa0\xc4\xa0"}) Add(&v, text, TokenType::kNormal);
    v.merges = {"h e", "l l", "he ll", "\xc4\xa0 he", "\xc4\xa0 \xc4\xa0"};
    start = Add(&v, "<|im_start|>", TokenType::kControl);
    end = Add(&v, "<|im_end|>", TokenType::kControl);
    user = Add(&v, "<|user|>", TokenType::kUserDefined);
    think = Add(&v, "<|userland|>", TokenType::kUserDefined);
    spaces = Add(&v, "    ", TokenType::kUserDefined);
    v.bos = start;
    v.eos = end;
  }
  std::unique_ptr<Tokenizer> Make() {
    auto tokenizer = Tokenizer::Create(v);
    EXPECT_OK(tokenizer);
    return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
  }
};

std::vector<TokenId> Plain(const Tokenizer& t, std::string_view text) {
  return *t.Encode(text, Special::kAsText, AddBos::kNo);
}

TEST(TokenizerTest, MergesInsideWords) {
  const auto t = ByteLevelVocabulary().Make();
  EXPECT_THAT(Plain(*t, "hello"), ElementsAre(258, 'o'));
  EXPECT_THAT(Plain(*t, " hello"), ElementsAre(' ', 258, 'o'));  // he+ll comes before space+he
  EXPECT_THAT(Plain(*t, " he"), ElementsAre(259));
  EXPECT_THAT(Plain(*t, ""), ElementsAre());
}

TEST(TokenizerTest, SpecialTokensOnlyWhereTrusted) {
  ByteLevelVocabulary b;
  const auto t = b.Make();
  const std::string text = "<|im_end|>h<|im_end|>";
  const std::vector<TokenId> all = *t->Encode(text, Special::kParse, AddBos::kNo);
  EXPECT_THAT(all, ElementsAre(b.end, 'h', b.end));
  const std::vector<TokenId> none = *t->Encode(text, Special::kAsText, AddBos::kNo);
  EXPECT_EQ(std::count(none.begin(), none.end(), b.end), 0);
  EXPECT_EQ(t->Decode(none, SpecialText::kAsText), text);
  // Only the second is trusted.
  const ByteRange second = {11, 21};
  const std::vector<TokenId> one = *t->Encode(text, std::span(&second, 1), AddBos::kNo);
  EXPECT_EQ(one.back(), b.end);
  EXPECT_EQ(std::count(one.begin(), one.end(), b.end), 1);
}

// Text on either side of a boundary of trust never joins into a special token.
TEST(TokenizerTest, ATokenMayNotCrossOutOfATrustedRange) {
  ByteLevelVocabulary b;
  const auto t = b.Make();
  const std::string text = "<|im_end|>";
  for (size_t begin = 0; begin <= text.size(); ++begin) {
    for (size_t end = begin; end <= text.size(); ++end) {
      const ByteRange range = {begin, end};
      const std::vector<TokenId> ids = *t->Encode(text, std::span(&range, 1), AddBos::kNo);
      const bool whole = begin == 0 && end == text.size();
      EXPECT_EQ(std::count(ids.begin(), ids.end(), b.end), whole ? 1 : 0) << begin << ".." << end;
      EXPECT_EQ(t->Decode(ids, SpecialText::kAsText), text);
    }
  }
}

TEST(TokenizerTest, UserDefinedMarkersAreSpecialAndOthersAreNot) {
  ByteLevelVocabulary b;
  const auto t = b.Make();
  EXPECT_TRUE(t->IsSpecial(b.user));
  EXPECT_FALSE(t->IsSpecial(b.spaces));
  const std::vector<TokenId> ids = Plain(*t, "a     <|user|>");
  EXPECT_THAT(std::vector<TokenId>(ids.begin(), ids.begin() + 3), ElementsAre('a', b.spaces, 0x20));
  EXPECT_EQ(std::count(ids.begin(), ids.end(), b.user), 0);
  EXPECT_THAT(*t->Encode("<|user|>", Special::kParse, AddBos::kNo), ElementsAre(b.user));
}

TEST(TokenizerTest, LeftmostThenLongest) {
  ByteLevelVocabulary b;
  const TokenId ab = Add(&b.v, "{ab}", TokenType::kUserDefined);
  const TokenId abc = Add(&b.v, "{ab}c", TokenType::kUserDefined);
  Add(&b.v, "b}cd", TokenType::kUserDefined);
  const auto t = b.Make();
  EXPECT_THAT(Plain(*t, "{ab}cd{ab}"), ElementsAre(abc, 'd', ab));
}

TEST(TokenizerTest, AddsTheBeginOfSequenceTokenWhenTheModelDoes) {
  ByteLevelVocabulary b;
  EXPECT_THAT(*b.Make()->Encode("h", Special::kAsText, AddBos::kIfModelDoes), ElementsAre('h'));
  b.v.add_bos = true;
  b.v.add_eos = true;
  EXPECT_THAT(*b.Make()->Encode("h", Special::kAsText, AddBos::kIfModelDoes), ElementsAre(b.start, 'h', b.end));
  EXPECT_THAT(*b.Make()->Encode("h", Special::kAsText, AddBos::kNo), ElementsAre('h'));
}

TEST(TokenizerTest, EndTokens) {
  ByteLevelVocabulary b;
  const TokenId text_end = Add(&b.v, "<|endoftext|>", TokenType::kControl);
  const auto t = b.Make();
  EXPECT_THAT(t->end_tokens(), ElementsAre(b.end, text_end));
  EXPECT_TRUE(t->IsEnd(text_end));
  EXPECT_FALSE(t->IsEnd(b.start));
  EXPECT_EQ(t->eot(), b.end);
}

TEST(TokenizerTest, DecodeAndLookups) {
  ByteLevelVocabulary b;
  const auto t = b.Make();
  const std::vector<TokenId> ids = {b.start, 259, 'y', b.end, -5, 100000};
  EXPECT_EQ(t->Decode(ids, SpecialText::kAsText), "<|im_start|> hey<|im_end|>");
  EXPECT_EQ(t->Decode(ids, SpecialText::kSkip), " hey");
  EXPECT_EQ(t->TokenBytes(259), " he");
  EXPECT_EQ(t->TokenText(259), "\xc4\xa0he");
  EXPECT_EQ(t->FindToken("<|im_end|>"), b.end);
  EXPECT_EQ(t->FindToken("nothing"), std::nullopt);
}

TEST(TokenizerTest, BytesTheVocabularyLacksAreLeftOut) {
  ByteLevelVocabulary b;
  b.v.types[0xF1] = TokenType::kControl;  // plain text cannot become it
  b.v.unknown = b.end;
  EXPECT_THAT(Plain(*b.Make(),
                    "a\xf1"
                    "b"),
              ElementsAre('a', 'b'));
}

TEST(TokenizerTest, NfcWhereTheModelComposes) {
  ByteLevelVocabulary b;
  b.v.pre = "qwen2";
  EXPECT_THAT(Plain(*b.Make(), "e\xcc\x81"), ElementsAre(0xC3, 0xA9));  // e + U+0301 -> U+00E9
  b.v.pre = "llama-bpe";
  EXPECT_THAT(Plain(*b.Make(), "e\xcc\x81"), ElementsAre('e', 0xCC, 0x81));
}

TEST(TokenizerTest, WholeWordsFirstWhereTheModelIgnoresMerges) {
  ByteLevelVocabulary b;
  const TokenId word = Add(&b.v, "lab", TokenType::kNormal);  // no merge makes it
  EXPECT_THAT(Plain(*b.Make(), "lab"), ElementsAre('l', 'a', 'b'));
  b.v.pre = "llama-bpe";
  EXPECT_THAT(Plain(*b.Make(), "lab"), ElementsAre(word));
}

// A merge whose piece is no token: passed through on the way, spelt out at the end.
TEST(TokenizerTest, MergesThroughPiecesThatAreNoTokens) {
  ByteLevelVocabulary b;
  b.v.merges.insert(b.v.merges.begin(), {"x y", "xy z"});
  const TokenId xyz = Add(&b.v, "xyz", TokenType::kNormal);
  const auto t = b.Make();
  EXPECT_THAT(Plain(*t, "xyz"), ElementsAre(xyz));
  EXPECT_THAT(Plain(*t, "xya"), ElementsAre('x', 'y', 'a'));
}

struct SentencePieceVocabulary {
  VocabularyData v;
  TokenId unknown, start, end, first_byte;
  SentencePieceVocabulary() {
    v.source = "test";
    v.model = TokenizerModel::kSentencePieceBpe;
    v.add_space_prefix = true;
    unknown = Add(&v, "<unk>", TokenType::kUnknown);
    start = Add(&v, "<s>", TokenType::kControl);
    end = Add(&v, "</s>", TokenType::kUserDefined);  // as Phi-3 has it
    first_byte = static_cast<TokenId>(v.tokens.size());
    for (int b = 0; b < 256; ++b) Add(&v, fmt::format("<0x{:02X}>", b), TokenType::kByte);
    v.unknown = unknown, v.bos = start, v.eos = end;
  }
  TokenId Piece(std::string_view text, float score) { return Add(&v, std::string(text), TokenType::kNormal, score); }
  std::unique_ptr<Tokenizer> Make() {
    auto tokenizer = Tokenizer::Create(v);
    EXPECT_OK(tokenizer);
    return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
  }
};

TEST(TokenizerTest, SentencePieceMergesTheBestScoreFirst) {
  SentencePieceVocabulary s;
  const std::string mark(kMark);
  const TokenId space = s.Piece(mark, -10), a = s.Piece("a", -11), b = s.Piece("b", -12), c = s.Piece("c", -13);
  const TokenId ab = s.Piece("ab", -2), bc = s.Piece("bc", -1), space_a = s.Piece(mark + "a", -3);
  const auto t = s.Make();
  EXPECT_THAT(Plain(*t, "abc"), ElementsAre(space_a, bc));  // bc, then a space and a
  EXPECT_THAT(Plain(*t, "bab"), ElementsAre(space, b, ab));
  EXPECT_THAT(Plain(*t, "c a"), ElementsAre(space, c, space_a));
  EXPECT_THAT(Plain(*t, ""), ElementsAre());
  EXPECT_EQ(t->Decode(Plain(*t, "abc a"), SpecialText::kAsText), "abc a");
  static_cast<void>(a);
}

TEST(TokenizerTest, SentencePieceFallsBackToBytes) {
  SentencePieceVocabulary s;
  const TokenId space = s.Piece(kMark, -1);
  const auto t = s.Make();
  EXPECT_THAT(Plain(*t, "\xc3\xa9\xff"),
              ElementsAre(space, s.first_byte + 0xC3, s.first_byte + 0xA9, s.first_byte + 0xFF));
  EXPECT_EQ(t->Decode(Plain(*t, "\xc3\xa9"), SpecialText::kAsText), "\xc3\xa9");
  SentencePieceVocabulary no_bytes;
  for (int b = 0; b < 256; ++b) no_bytes.v.types[static_cast<size_t>(no_bytes.first_byte + b)] = TokenType::kUnused;
  const TokenId mark = no_bytes.Piece(kMark, -1);
  EXPECT_THAT(Plain(*no_bytes.Make(), "\xc3\xa9"), ElementsAre(mark, no_bytes.unknown));  // once per character
}

// Merges could spell "</s>" or "<0x0A>"; text must not become either.
TEST(TokenizerTest, SentencePieceTextNeverMergesIntoSpecialOrByteTokens) {
  SentencePieceVocabulary s;
  s.v.add_space_prefix = false;
  for (const char* piece : {"<", "/", "s", ">", "</", "</s", "0", "x", "A", "<0", "<0x", "<0x0", "<0x0A"}) {
    s.Piece(piece, -1);
  }
  const auto t = s.Make();
  for (const std::string text : {"</s>", "<s>", "<unk>", "<0x0A>"}) {
    for (const TokenId id : Plain(*t, text)) {
      EXPECT_FALSE(t->IsSpecial(id)) << text;
      EXPECT_FALSE(t->Type(id) == TokenType::kByte && t->TokenBytes(id) == "\n") << text;
    }
  }
  EXPECT_THAT(*t->Encode("<s></s>", Special::kParse, AddBos::kNo), ElementsAre(s.start, s.end));
}

TEST(TokenizerTest, SentencePieceAddsItsSpaceAfterSpecialTokens) {
  SentencePieceVocabulary s;
  const std::string mark(kMark);
  s.Piece(mark, -5);
  const TokenId a = s.Piece("a", -4), space_a = s.Piece(mark + "a", -1);
  const auto t = s.Make();
  EXPECT_THAT(*t->Encode("a<s>a", Special::kParse, AddBos::kNo), ElementsAre(space_a, s.start, space_a));
  s.v.add_space_prefix = false;
  EXPECT_THAT(*s.Make()->Encode("a<s>a", Special::kParse, AddBos::kNo), ElementsAre(a, s.start, a));
}

// ---- What Create refuses.

auto Refused(std::string_view detail) {
  return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(detail)));
}

TEST(TokenizerTest, RefusesContradictions) {
  EXPECT_THAT(Tokenizer::Create({}), Refused("0 tokens"));
  ByteLevelVocabulary b;
  b.v.types.pop_back();
  EXPECT_THAT(Tokenizer::Create(b.v), Refused("265 token types for 266 tokens"));
  b = {};
  b.v.types[7] = static_cast<TokenType>(9);
  EXPECT_THAT(Tokenizer::Create(b.v), Refused("token 7 "));
  b = {};
  b.v.bos = 266;
  EXPECT_THAT(Tokenizer::Create(b.v), Refused("the bos token is 266, but the vocabulary has 266"));
  b.v.bos = -1;
  EXPECT_THAT(Tokenizer::Create(b.v), Refused("the bos token is -1"));
  b.v.bos.reset();
  b.v.add_bos = true;
  EXPECT_THAT(Tokenizer::Create(b.v), Refused("none is named"));
  b = {};
  b.v.pre = "mystery";
  EXPECT_THAT(Tokenizer::Create(b.v), Refused("unknown pre-tokenizer \"mystery\""));
  SentencePieceVocabulary s;
  s.v.scores.pop_back();
  EXPECT_THAT(Tokenizer::Create(s.v), Refused("258 token scores for 259 tokens"));
  s = {};
  s.v.scores[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(Tokenizer::Create(s.v), Refused("token 3 \"<0x00>\" has the score nan"));
}

TEST(TokenizerTest, RefusesMalformedMerges) {
  for (const std::string merge : {"", "ab", " ", "a ", "h \xe6\xbc\xa2"}) {
    ByteLevelVocabulary b;
    b.v.merges.push_back(merge);
    EXPECT_THAT(Tokenizer::Create(b.v), Refused("merge 5")) << merge;
  }
}

// "<0x-1>" indexed out of bounds in another reader.
TEST(TokenizerTest, RefusesMalformedByteTokens) {
  for (const std::string text : {"<0x-1>", "<0x>", "<0x0G>", "<0x100>", "0x0A", "", "<0x0A> "}) {
    SentencePieceVocabulary s;
    s.v.tokens[static_cast<size_t>(s.first_byte) + 10] = text;
    EXPECT_THAT(Tokenizer::Create(s.v), Refused("is of type byte")) << text;
  }
}

TEST(TokenizerTest, TokensHaveALengthLimit) {
  ByteLevelVocabulary b;
  Add(&b.v, std::string(kTokenBytesMax, 'x'), TokenType::kNormal);
  EXPECT_OK(Tokenizer::Create(b.v));
  Add(&b.v, std::string(kTokenBytesMax + 1, 'x'), TokenType::kNormal);
  EXPECT_THAT(Tokenizer::Create(b.v), Refused("token 267 has 4097 bytes, at most 4096"));
}

}  // namespace
}  // namespace conclave::engine
