#pragma once
#include <string_view>

#include "base/error.hpp"

namespace croft {

/// Whether an expression (PCRE's language) takes time in proportion to its text's length, whatever the text. A text of a request is up to 16 KiB long, every rule is asked
/// for every request, and HAProxy ends itself when it is busy for two seconds; its own bound for expressions counts anew at every place where a match may begin.
///
/// Taken: characters, classes, groups, alternatives, repetitions of single characters whose end is told by what follows (`[a-z]+/`), and one whose end is not (`.*x`),
/// with a begin that is told: `^`, `.*`, or bytes over which no repetition goes (`/v[0-9]+/`); as long as that makes a hundred steps or so for every byte of the text.
/// Refused: a repeated group, look-around, back-references, what can be read in more than one way, and what is not known here.
/// Errors   invalid: says what, and how to write it otherwise.
Status check_regex_cost(std::string_view expression);

}  // namespace croft
