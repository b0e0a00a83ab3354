// SPDX-License-Identifier: Apache-2.0
// Hashes and counter-based random numbers: stable across runs, machines and builds, so that they may be stored.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace conclave {

// FNV-1a, 64 bits (http://www.isthe.com/chongo/tech/comp/fnv). For tables and derived seeds, never for integrity.
constexpr uint64_t Fnv1a64(std::string_view text, uint64_t h = 0xcbf29ce484222325ULL) {
  for (char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
  return h;
}

// SplitMix64's finaliser (Steele, Lea, Flood 2014): spreads the bits of a combined key.
constexpr uint64_t Mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Philox4x32-10 (Salmon et al., SC'11): 128 random bits as a pure function of (key, counter).
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 2> key, std::array<uint32_t, 4> counter);

// A uniform double in [0, 1) as a pure function of (seed, stream, index): 53 bits of Philox.
double PhiloxUniform(uint64_t seed, uint64_t stream, uint64_t index);

// SHA-256 (FIPS 180-4), incremental. For content identity: models, graphs, data, prompts.
class Sha256 {
 public:
  Sha256();
  void Update(std::string_view bytes);
  // Either one, once, last.
  std::array<uint32_t, 8> Digest();  // big-endian words
  std::string HexDigest();           // 64 lower-case digits

 private:
  void Block(const uint8_t* p);
  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> buffer_;
  uint64_t length_ = 0;
};

std::string Sha256Hex(std::string_view bytes);

}  // namespace conclave
