#pragma once
// UTF-8, byte by byte.

#include <cstddef>
#include <string>
#include <string_view>

namespace croft {

/// Length of the valid sequence at the start of `s`, which is not empty; 0 when there is none.
std::size_t utf8_length(std::string_view s);

/// Others' text as it may stand on a terminal, which it must not steer: controls as "\x1b" and "\u009b", what turns the direction of writing or breaks lines without being a
/// line's end as "\u202e", bytes that are no UTF-8 as "\xff". With `lines` tabs and line ends stay.
std::string inert(std::string_view text, bool lines = false);

}  // namespace croft
