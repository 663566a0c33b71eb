#include "model/regex_cost.hpp"

#include <algorithm>
#include <bitset>
#include <utility>
#include <vector>

#include "base/text.hpp"

namespace croft {

namespace {

using Bytes = std::bitset<256>;

constexpr int power_max = 1, ways_max = 16, depth_max = 8;

/// What is known of a piece: which bytes it may begin with, and whether it may be empty.
struct Piece {
  Bytes first;
  bool may_be_empty = false, repeats = false;
};

Bytes all_bytes() { return Bytes().set(); }

Bytes one(char c) {
  Bytes out;
  out.set(static_cast<unsigned char>(c));
  // As with -i: an overlap is found too often rather than never.
  if (c >= 'a' && c <= 'z') out.set(static_cast<unsigned char>(c - 'a' + 'A'));
  if (c >= 'A' && c <= 'Z') out.set(static_cast<unsigned char>(c - 'A' + 'a'));
  return out;
}

/// Reads an expression once, from left to right.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Status judge() {
    if (text_.starts_with("(?i)")) at_ = 4;
    bool anchored = at_ < text_.size() && text_[at_] == '^' && !has_top_level_bar();
    if (auto whole = alternatives(0); !whole) return fail(std::move(whole).error());
    if (at_ != text_.size()) return refuse("has a ) without a (");
    auto power = choices_ + (runs_ ? 1 : 0) + (anchored ? 0 : 1);
    if (power > power_max) return refuse(anchored ? "has more than one repetition that could end in several places, as .* does" : "has repetitions, and could begin in every place of the text: begin it with ^");
    if (ways_ > ways_max) return refuse("has too many ways to match the same text");
    return {};
  }

 private:
  std::unexpected<Error> refuse(std::string_view why) const { return fail(Errc::invalid, "the expression '{}' could keep the balancer busy: it {}", text_.substr(0, 100), why); }
  [[nodiscard]] bool more() const { return at_ < text_.size(); }

  [[nodiscard]] bool has_top_level_bar() const {
    int depth = 0;
    bool in_class = false;
    for (auto i = at_; i < text_.size(); ++i) {
      if (text_[i] == '\\') ++i;
      else if (in_class) in_class = text_[i] != ']';
      else if (text_[i] == '[') in_class = true, i += text_.substr(i + 1).starts_with("^]") ? 2 : text_.substr(i + 1).starts_with("]") ? 1 : 0;
      else if (text_[i] == '(') ++depth;
      else if (text_[i] == ')') --depth;
      else if (text_[i] == '|' && depth == 0) return true;
    }
    return false;
  }

  Result<Piece> alternatives(int depth) {
    if (depth > depth_max) return refuse("has groups within groups within groups");
    Piece out;
    int branches = 0;
    bool overlap = false;
    do {
      if (branches++ > 0) ++at_;
      auto branch = sequence(depth);
      if (!branch) return branch;
      overlap = overlap || (out.first & branch->first).any() || (branches > 1 && (branch->may_be_empty || out.may_be_empty));
      out.first |= branch->first;
      out.may_be_empty = out.may_be_empty || branch->may_be_empty;
      out.repeats = out.repeats || branch->repeats;
    } while (more() && text_[at_] == '|');
    if (overlap) ways_ = std::min(ways_ * branches, 2 * ways_max);
    return out;
  }

  enum class Length { fixed, optional, open };

  Result<Piece> sequence(int depth) {
    std::vector<std::pair<Piece, Length>> pieces;
    while (more() && text_[at_] != '|' && text_[at_] != ')') {
      auto piece = atom(depth);
      if (!piece) return piece;
      auto length = Length::fixed;
      if (auto ok = quantifier(*piece, length); !ok) return fail(std::move(ok).error());
      pieces.emplace_back(*piece, length);
    }
    Piece out;
    out.may_be_empty = true;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const auto& [piece, length] = pieces[i];
      if (out.may_be_empty) out.first |= piece.first, out.may_be_empty = piece.may_be_empty;
      out.repeats = out.repeats || piece.repeats;
      if (length == Length::fixed) continue;
      // What follows says where a repetition ends; else every length is tried. One of any byte at the very end takes what there is.
      Bytes next;
      bool end = true;
      for (auto j = i + 1; j < pieces.size() && end; ++j) next |= pieces[j].first.first, end = pieces[j].first.may_be_empty;
      bool told = (piece.first & next).none() && !(end && depth > 0);
      if (length == Length::optional) ways_ *= told ? 1 : 2;
      else if (!told) ++choices_;
      else runs_ = runs_ || !end || !piece.first.all();
      ways_ = std::min(ways_, 2 * ways_max);
    }
    return out;
  }

  Result<Piece> atom(int depth) {
    char c = text_[at_++];
    switch (c) {
      case '^': case '$': return Piece{{}, true, false};
      case '.': return Piece{all_bytes(), false, false};
      case '[': return char_class();
      case '(': return group(depth);
      case '\\': return escape();
      case '*': case '+': case '?': return refuse("repeats nothing");
      default: return Piece{one(c), false, false};
    }
  }

  Result<Piece> group(int depth) {
    if (text_.substr(at_).starts_with("?:")) at_ += 2;
    else if (more() && text_[at_] == '?') return refuse("has a (? that is not (?:");
    else if (more() && text_[at_] == '*') return refuse("has a (*");
    auto inner = alternatives(depth + 1);
    if (!inner) return inner;
    if (!more()) return refuse("has a ( without a )");
    ++at_;
    inner->repeats = inner->repeats || inner->may_be_empty;
    in_group_ = true;
    return inner;
  }

  Result<Piece> escape() {
    if (!more()) return refuse("ends with a backslash");
    char c = text_[at_++];
    if (std::string_view("dDwWsShHvVNR").find(c) != std::string_view::npos) {
      Piece out{all_bytes(), false, false};
      if (c == 'd') out.first = range('0', '9');
      if (c == 'w') out.first = range('0', '9') | range('a', 'z') | range('A', 'Z') | one('_');
      return out;
    }
    if (std::string_view("bBAzZ").find(c) != std::string_view::npos) return Piece{{}, true, false};
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return refuse(fmt::format("has \\{}", c));
    return Piece{one(c), false, false};
  }

  static Bytes range(char from, char to) {
    Bytes out;
    for (int c = static_cast<unsigned char>(from); c <= static_cast<unsigned char>(to); ++c) out |= one(static_cast<char>(c));
    return out;
  }

  Result<Piece> char_class() {
    bool negated = more() && text_[at_] == '^';
    if (negated) ++at_;
    Bytes set;
    bool first = true, unknown = false;
    for (; more() && (text_[at_] != ']' || first); first = false) {
      char c = text_[at_++];
      if (c == '[' && more() && (text_[at_] == ':' || text_[at_] == '.' || text_[at_] == '=')) {
        auto close = text_.find(fmt::format("{}]", text_[at_]), at_ + 1);
        if (close == std::string_view::npos) return refuse("has a [ without a ]");
        at_ = close + 2, unknown = true;
        continue;
      }
      if (c == '\\') {
        auto piece = escape();
        if (!piece) return piece;
        set |= piece->first;
        continue;
      }
      if (text_.size() - at_ >= 2 && text_[at_] == '-' && text_[at_ + 1] != ']' && text_[at_ + 1] != '\\') set |= range(c, text_[at_ + 1]), at_ += 2;
      else set |= one(c);
    }
    if (!more()) return refuse("has a [ without a ]");
    ++at_;
    if (unknown) return Piece{all_bytes(), false, false};
    return Piece{negated ? exactly_without(set) : set, false, false};
  }
  /// one() holds both cases: a class that excludes 'a' may still have 'A'.
  static Bytes exactly_without(Bytes set) {
    for (char c = 'a'; c <= 'z'; ++c) set.reset(static_cast<unsigned char>(c)), set.reset(static_cast<unsigned char>(c - 'a' + 'A'));
    return ~set;
  }

  Status quantifier(Piece& piece, Length& length) {
    bool group = std::exchange(in_group_, false);
    if (!more()) return {};
    char c = text_[at_];
    bool counted = c == '{' && at_ + 1 < text_.size() && text_[at_ + 1] >= '0' && text_[at_ + 1] <= '9';
    if (c != '*' && c != '+' && c != '?' && !counted) return {};
    if (piece.first.none()) return refuse("repeats nothing");
    ++at_;
    if (c == '?') {
      if (piece.repeats) return refuse("has a ? on what repeats");
      length = Length::optional;
      piece.may_be_empty = true;
    } else {
      if (group) return refuse("repeats a group");
      length = Length::open;
      piece.may_be_empty = c == '*';
      piece.repeats = true;
      if (counted) {
        auto close = text_.find('}', at_);
        if (close == std::string_view::npos) return refuse("has a { without a }");
        auto inside = text_.substr(at_, close - at_);
        if (inside.find(',') == std::string_view::npos) length = Length::fixed;
        piece.may_be_empty = inside.starts_with("0");
        at_ = close + 1;
      }
    }
    if (more() && (text_[at_] == '?' || text_[at_] == '+')) ++at_;  // lazy, possessive
    if (more() && std::string_view("*+?{").find(text_[at_]) != std::string_view::npos) return refuse("repeats a repetition");
    return {};
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int choices_ = 0, ways_ = 1;  // repetitions whose end is tried in every place; how often the same place may be come to
  bool runs_ = false;           // some repetition has to be walked along
  bool in_group_ = false;  // the piece just read is a group
};

}  // namespace

Status check_regex_cost(std::string_view expression) { return Reader(expression).judge(); }

}  // namespace croft
