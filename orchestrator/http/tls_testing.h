// SPDX-License-Identifier: Apache-2.0
// Certificates that a test makes for itself.
#pragma once

#include <cstdlib>
#include <string>

#include "common/check.h"

namespace conclave::http {

struct TestCertificate {
  std::string certificate, key;  // PEM files
};

// One for "localhost" that vouches for itself, in `folder`.
inline TestCertificate MakeCertificate(const std::string& folder, const std::string& name) {
  TestCertificate made = {folder + "/" + name + ".pem", folder + "/" + name + ".key.pem"};
  const std::string command =
      "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost "
      "-keyout " +
      made.key + " -out " + made.certificate + " 2>/dev/null";
  CONCLAVE_CHECK(std::system(command.c_str()) == 0);
  return made;
}

}  // namespace conclave::http
