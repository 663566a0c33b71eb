#pragma once
#include <string_view>

#include "base/error.hpp"

namespace croft {

/// Whether an expression (PCRE's language) takes time in proportion to its text's length, whatever the text. A text of a request is up to 16 KiB long, every rule is asked
/// for every request, and HAProxy ends itself when it is busy for two seconds; its own bound for expressions counts anew at every place where a match may begin.
///
/// Taken: characters, classes, groups, alternatives, repetitions of single characters whose end is told by what follows (`[a-z]+/`), and one of: a repetition whose
/// end is not (`.*x`), a begin that is not `^`. Refused: a repeated group, look-around, back-references, and what is not known here.
/// Errors   invalid: says what, and how to write it otherwise.
Status check_regex_cost(std::string_view expression);

}  // namespace croft
