// Messages and what must become of them: a row each. Used whole, cut at every byte, mutated, and as the naive parser's
// exam.
#pragma once

#include <string>
#include <vector>

#include "support/h1_transcript.h"

namespace outrigger::http {

struct Row {
  std::string name;
  std::string input;
  std::string expect;  // the transcript, or only its last line for faults ("FAULT ...")
  TranscriptOptions options = {};
};

std::vector<Row> request_rows();
std::vector<Row> response_rows();

}  // namespace outrigger::http
