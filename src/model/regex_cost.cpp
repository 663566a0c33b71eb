#include "model/regex_cost.hpp"

#include <algorithm>
#include <array>
#include <bitset>
#include <utility>
#include <vector>

#include "base/text.hpp"

namespace croft {

namespace {

using Bytes = std::bitset<256>;

constexpr int depth_max = 8, ways_max = 16, number_max = 1000;
constexpr int few = 64;              // repetitions up to here are so many steps; longer ones are walks
constexpr long steps_max = 128;      // for every byte of the text
constexpr long no_more = 1'000'000;  // where counting ends

/// A piece of an expression: a character of a class, what only looks (^ $ \b), or a group; and how often. Sets hold too much rather than too little.
struct Node {
  Bytes first = {};
  bool may_be_empty = false, dot = false, looks = false, caret = false, possessive = false;
  int min = 1, max = 1;  // max: -1 where there is none
  int entry = 1;         // steps until it is known that none of `first` is there
  std::vector<std::vector<Node>> branches = {};  // of a group
};
using Sequence = std::vector<Node>;

Bytes all_bytes() { return Bytes().set(); }

Bytes one(char c) {
  Bytes out;
  out.set(static_cast<unsigned char>(c));
  // As with -i: an overlap is found too often rather than never.
  if (c >= 'a' && c <= 'z') out.set(static_cast<unsigned char>(c - 'a' + 'A'));
  if (c >= 'A' && c <= 'Z') out.set(static_cast<unsigned char>(c - 'A' + 'a'));
  return out;
}

Bytes range(char from, char to) {
  Bytes out;
  for (int c = static_cast<unsigned char>(from); c <= static_cast<unsigned char>(to); ++c) out |= one(static_cast<char>(c));
  return out;
}

/// one() holds both cases: a class that excludes 'a' may still have 'A'.
Bytes without(Bytes set) {
  for (char c = 'a'; c <= 'z'; ++c) set.reset(static_cast<unsigned char>(c)), set.reset(static_cast<unsigned char>(c - 'a' + 'A'));
  return ~set;
}

Node byte_of(Bytes set, bool dot = false) { return {.first = set, .dot = dot}; }
Node look(bool caret = false) { return {.may_be_empty = true, .looks = true, .caret = caret}; }

std::unexpected<Error> refuse_text(std::string_view text, std::string_view why) {
  return fail(Errc::invalid, "the expression '{}' could keep the balancer busy: it {}", text.substr(0, 100), why);
}

/// Reads an expression once, from left to right.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Result<Node> read() {
    if (text_.starts_with("(?i)")) at_ = 4;
    auto whole = alternatives(0);
    if (whole && more()) return refuse("has a ) without a (");
    return whole;
  }

 private:
  std::unexpected<Error> refuse(std::string_view why) const { return refuse_text(text_, why); }
  [[nodiscard]] bool more() const { return at_ < text_.size(); }
  [[nodiscard]] std::string_view rest() const { return text_.substr(at_); }

  Result<Node> alternatives(int depth) {
    if (depth > depth_max) return refuse("has groups within groups within groups");
    Node out;
    out.entry = 0;
    do {
      if (!out.branches.empty()) ++at_;
      auto branch = sequence(depth);
      if (!branch) return fail(std::move(branch).error());
      bool open = true;
      for (auto node = branch->begin(); node != branch->end() && open; ++node) out.first |= node->first, out.entry += node->entry, open = node->may_be_empty;
      out.entry = std::min<int>(out.entry + 1, no_more);
      out.may_be_empty = out.may_be_empty || open;
      out.branches.push_back(std::move(*branch));
    } while (more() && text_[at_] == '|');
    return out;
  }

  Result<Sequence> sequence(int depth) {
    Sequence out;
    while (more() && text_[at_] != '|' && text_[at_] != ')') {
      auto node = atom(depth);
      if (!node) return fail(std::move(node).error());
      if (auto ok = quantifier(*node); !ok) return fail(std::move(ok).error());
      out.push_back(std::move(*node));
    }
    return out;
  }

  Result<Node> atom(int depth) {
    char c = text_[at_++];
    switch (c) {
      case '^': case '$': return look(c == '^');
      case '[': return char_class();
      case '(': return group(depth);
      case '\\': return escape();
      case '*': case '+': case '?': return refuse("repeats nothing");
      case '{': return refuse("has a { that is no number of repetitions: write \\{");
      case '.': return byte_of(all_bytes(), true);
      default: return byte_of(one(c));
    }
  }

  Result<Node> group(int depth) {
    if (rest().starts_with("?:")) at_ += 2;
    else if (more() && text_[at_] == '?') return refuse("has a (? that is not (?:");
    else if (more() && text_[at_] == '*') return refuse("has a (*");
    auto inner = alternatives(depth + 1);
    if (!inner) return inner;
    if (!more()) return refuse("has a ( without a )");
    ++at_;
    return inner;
  }

  Result<Node> escape() {
    if (!more()) return refuse("ends with a backslash");
    char c = text_[at_++];
    if (c == 'd') return byte_of(range('0', '9'));
    if (c == 'w') return byte_of(range('0', '9') | range('a', 'z') | one('_'));
    if (std::string_view("DWsShHvVNR").find(c) != std::string_view::npos) return byte_of(all_bytes());
    if (std::string_view("bBAzZ").find(c) != std::string_view::npos) return look();
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return refuse(fmt::format("has \\{}", c));
    return byte_of(one(c));
  }

  [[nodiscard]] bool at_named() const { return rest().starts_with("[:") || rest().starts_with("[.") || rest().starts_with("[="); }

  /// [:alpha:] and its kind, inside of a class; anything else that begins so is read in more than one way.
  Status named() {
    for (std::string_view name : {"alpha", "lower", "upper", "alnum", "ascii", "blank", "cntrl", "digit", "graph", "print", "punct", "space", "word", "xdigit"}) {
      if (!rest().starts_with(fmt::format("[:{}:]", name))) continue;
      at_ += name.size() + 4;
      return {};
    }
    return refuse("has a [: or [. or [= in a class that is no name as [:alpha:] is");
  }

  Result<Node> char_class() {
    bool negated = more() && text_[at_] == '^';
    if (negated) ++at_;
    Bytes set;
    bool first = true, inexact = false;
    for (; more() && (text_[at_] != ']' || first); first = false) {
      if (at_named()) {
        if (auto ok = named(); !ok) return fail(std::move(ok).error());
        inexact = true;
        if (in_range()) return refuse("has a range that begins with a class");
        continue;
      }
      char c = text_[at_++];
      if (c == '\\') {
        auto node = escape();
        if (!node) return node;
        if (node->looks) return refuse("has \\b in a class");
        if (in_range()) return refuse("has a range that begins with a backslash: put the - at the end of the class");
        set |= node->first, inexact = inexact || node->first.all();
      } else if (in_range()) {
        ++at_;
        if (text_[at_] == '\\' || at_named()) return refuse("has a range that ends with a backslash or a class: put the - at the end of the class");
        if (static_cast<unsigned char>(text_[at_]) < static_cast<unsigned char>(c)) return refuse("has a range from its end to its begin");
        set |= range(c, text_[at_++]);
      } else {
        set |= one(c);
      }
    }
    if (!more()) return refuse("has a [ without a ]");
    ++at_;
    if (inexact) return byte_of(all_bytes());
    return byte_of(negated ? without(set) : set);
  }
  [[nodiscard]] bool in_range() const { return rest().size() >= 2 && rest()[0] == '-' && rest()[1] != ']'; }

  /// {3}, {3,} and {3,5}, nothing else.
  Status numbers(Node& node) {
    auto close = text_.find('}', at_);
    if (close == std::string_view::npos) return refuse("has a { without a }");
    auto inside = text_.substr(at_ + 1, close - at_ - 1);
    auto comma = inside.find(',');
    auto number = [](std::string_view digits) {
      if (digits.empty() || digits.find_first_not_of("0123456789") != std::string_view::npos) return -1;
      int out = 0;
      for (char c : digits) out = std::min(out * 10 + (c - '0'), number_max + 1);
      return out;
    };
    node.min = number(inside.substr(0, comma));
    bool open = comma != std::string_view::npos && comma + 1 == inside.size();
    node.max = comma == std::string_view::npos ? node.min : open ? -1 : number(inside.substr(comma + 1));
    if (node.min < 0 || (node.max < 0 && !open)) return refuse("has a { that is no number of repetitions: write \\{");
    if (node.min > number_max || node.max > number_max) return refuse(fmt::format("has more than {} repetitions", number_max));
    if (!open && node.max < std::max(node.min, 1)) return refuse("repeats nothing");
    at_ = close + 1;
    return {};
  }

  Status quantifier(Node& node) {
    if (!more() || std::string_view("*+?{").find(text_[at_]) == std::string_view::npos) return {};
    if (node.looks) return refuse("repeats nothing");
    char c = text_[at_];
    if (c == '{') {
      if (auto ok = numbers(node); !ok) return ok;
    } else {
      ++at_;
      node.min = c == '+' ? 1 : 0, node.max = c == '?' ? 1 : -1;
    }
    if (!node.branches.empty()) {
      if (c != '?') return refuse("repeats a group");
      if (node.may_be_empty) return refuse("has a ? on what may be empty");
    }
    node.may_be_empty = node.min == 0;
    if (more() && (text_[at_] == '?' || text_[at_] == '+')) node.possessive = text_[at_++] == '+';  // or lazy
    if (more() && std::string_view("*+?{").find(text_[at_]) != std::string_view::npos) return refuse("repeats a repetition");
    return {};
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// What comes after a piece, up to the end of the expression.
struct Follow {
  Bytes next;         // what it may begin with
  long entry = 0;     // steps until it is known that none of these is there
  bool free = true;   // there is nothing: the expression is done
};

/// What a piece takes from one place of the text: steps, and steps for every byte of what is left; and in how many ways it may end, and whether it may end anywhere.
struct Cost {
  long fixed = 0, walked = 0, ways = 1;
  bool anywhere = false, square = false;
};

Follow before(const Node& node, const Follow& after) {
  Follow out{node.first, node.entry, false};
  if (node.may_be_empty) out.next |= after.next, out.entry = std::min(out.entry + after.entry, no_more);
  return out;
}

Cost cost_of(const std::vector<Sequence>& branches, const Follow& after);

Cost cost_of(const Node& node, const Follow& after) {
  // Where what follows begins with nothing of this, giving up a byte of it (or all) fails at once.
  bool told = (node.first & after.next).none();
  if (!node.branches.empty()) {
    auto out = cost_of(node.branches, after);
    if (node.min == 0) out.fixed += 1 + after.entry, out.ways += told ? 0 : 1;
    return out;
  }
  bool walk = node.min > few || node.max > few;
  if (walk) return {0, 1 + after.entry, 1, true, false};
  if (node.min == node.max) return {node.max, 0, 1, false, false};
  if (after.free) return {node.min + 1, 0, 1, false, false};  // it matches: the end
  if (node.max >= 0) return {node.max * (told ? 1 + after.entry : 1), 0, told ? 1 : node.max - node.min + 1, false, false};
  return {node.min, 1 + after.entry, 1, !told, false};
}

Cost cost_of(const Sequence& sequence, const Follow& after) {
  std::vector<Follow> follows(sequence.size());
  auto follow = after;
  for (auto i = sequence.size(); i-- > 0; follow = before(sequence[i], follow)) follows[i] = follow;
  Cost out;
  for (std::size_t i = 0; i < sequence.size(); ++i) {
    auto next = cost_of(sequence[i], follows[i]);
    out.square = out.square || next.square || (out.anywhere && next.walked > 0);
    (out.anywhere ? out.walked : out.fixed) += out.ways * next.fixed;
    out.walked += out.ways * next.walked;
    out.ways *= next.ways;
    out.anywhere = out.anywhere || next.anywhere;
    for (auto* count : {&out.fixed, &out.walked, &out.ways}) *count = std::min(*count, no_more);
  }
  return out;
}

/// Of several branches those are gone into which can begin with the byte that is there.
Cost cost_of(const std::vector<Sequence>& branches, const Follow& after) {
  std::array<Cost, 256> by_byte;
  Cost out;
  for (auto& cost : by_byte) cost.ways = 0;
  long entry = 0;
  for (const auto& branch : branches) {
    auto cost = cost_of(branch, after);
    Follow begin;
    for (auto node = branch.rbegin(); node != branch.rend(); ++node) begin = before(*node, begin);
    bool may_be_empty = std::ranges::all_of(branch, &Node::may_be_empty);
    entry += begin.entry + 1;
    for (std::size_t c = 0; c < by_byte.size(); ++c)
      if (may_be_empty || begin.next.test(c)) by_byte[c].fixed += cost.fixed, by_byte[c].walked += cost.walked, by_byte[c].ways += cost.ways;
    out.anywhere = out.anywhere || cost.anywhere, out.square = out.square || cost.square;
  }
  for (const auto& cost : by_byte) out.fixed = std::max(out.fixed, cost.fixed), out.walked = std::max(out.walked, cost.walked), out.ways = std::max(out.ways, cost.ways);
  if (branches.size() > 1) out.fixed += entry;
  for (auto* count : {&out.fixed, &out.walked, &out.ways}) *count = std::min(*count, no_more);
  return out;
}

/// Whether nothing that is walked along holds one of these bytes.
bool walks_without(const std::vector<Sequence>& branches, const Bytes& bytes) {
  return std::ranges::all_of(branches, [&](const auto& sequence) {
    return std::ranges::all_of(sequence, [&](const Node& node) {
      if (!node.branches.empty()) return walks_without(node.branches, bytes);
      bool walks = node.max < 0 || node.max > few;
      return !walks || (node.first & bytes).none();
    });
  });
}

}  // namespace

Status check_regex_cost(std::string_view expression) {
  auto whole = Reader(expression).read();
  if (!whole) return fail(std::move(whole).error());
  auto all_begin = [&](auto with) { return std::ranges::all_of(whole->branches, [&](const auto& branch) { return !branch.empty() && with(branch.front()); }); };
  auto cost = cost_of(whole->branches, Follow());
  if (cost.square) return refuse_text(expression, "has more than one repetition that could end in several places, as .* does");
  if (cost.ways > ways_max) return refuse_text(expression, "has too many ways to match the same text");
  long steps = cost.walked;
  // PCRE begins a leading .* at the begins of lines only, and no line is walked twice. A begin at bytes over which no repetition goes walks no further than a few such.
  bool anchored = all_begin([](const Node& node) { return node.caret; });
  bool lines = all_begin([](const Node& node) { return node.caret || (node.dot && node.min == 0 && node.max < 0 && !node.possessive); });
  if (!anchored) {
    bool apart = !whole->may_be_empty && walks_without(whole->branches, whole->first);
    if (cost.walked > 0 && !lines && !apart) return refuse_text(expression, "has repetitions, and could begin in every place of the text: begin it with ^");
    steps = cost.fixed + cost.walked * (lines ? 1 : std::max(cost.fixed, 1L));
  }
  if (steps > steps_max) return refuse_text(expression, "takes too many steps for every byte of the text");
  return {};
}

}  // namespace croft
