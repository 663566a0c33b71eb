// Lucene's query syntax, by recursive descent:  or := and (OR and | and)* ; and := not (AND not)* ; not := (NOT|!|-|+)* atom

#include <algorithm>

#include "base/text.hpp"
#include "logs/query/parse.hpp"

namespace croft::logs {

namespace {

constexpr int depth_max = 60;

class Parser {
 public:
  Parser(std::string_view text, const QueryStringOptions& options, Wall now) : text_(text), options_(options), now_(now) {}

  Result<QueryPtr> run() {
    space();
    if (done()) return match_all();
    auto q = any_of(options_.field, 0);
    if (!q) return q;
    space();
    if (!done()) return wrong(text_[at_] == ')' ? "unexpected ')'" : "unexpected text");
    return q;
  }

 private:
  bool done() const { return at_ >= text_.size(); }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  void space() { while (!done() && std::string_view(" \t\r\n").contains(text_[at_])) ++at_; }
  std::unexpected<Error> wrong(std::string_view why) const { return fail(Errc::invalid, "Failed to parse query [{}]: column {}: {}", text_, at_ + 1, why); }

  bool at_word(std::string_view w) {
    auto before = at_;
    bool there = word(w);
    at_ = before;
    return there;
  }

  bool word(std::string_view w) {
    if (!text_.substr(at_).starts_with(w)) return false;
    bool symbol = w == "&&" || w == "||";
    char next = peek(w.size());
    if (!symbol && next != '\0' && !std::string_view(" \t\r\n(").contains(next)) return false;
    at_ += w.size();
    return true;
  }

  /// What stands before a clause decides how it joins the others.
  struct Part { QueryPtr query; bool must = false, alternative = false; };  // alternative: an OR stands beside it

  Result<QueryPtr> any_of(const std::string& field, int depth) {
    if (depth > depth_max) return wrong("nested too deeply");
    std::vector<Part> parts;
    bool after_or = false;
    for (;;) {
      Part part;
      part.alternative = after_or;
      auto q = all_of(field, depth, part.must);
      if (!q) return q;
      part.query = *q;
      parts.push_back(std::move(part));
      space();
      if (done() || peek() == ')') return combine(std::move(parts));
      after_or = word("OR") || word("||");
      parts.back().alternative = parts.back().alternative || after_or;
      if (after_or) space();
      if (done() || peek() == ')') return wrong("an operand is missing");
    }
  }

  static bool only_negative(const Query& q) { return q.kind == Query::Kind::boolean && q.must.empty() && q.should.empty() && q.must_not.size() == 1; }

  /// `+error -debug timeout`: what has a plus is required, what has a minus excludes, and of the rest one must match, unless something is required.
  /// Beside an OR a negation is an alternative like another: `a OR NOT b` finds what has a, and all that lacks b.
  static QueryPtr combine(std::vector<Part> parts) {
    if (parts.size() == 1) return parts[0].query;
    std::vector<QueryPtr> required, optional, excluded;
    for (auto& part : parts) {
      if (only_negative(*part.query) && !part.alternative) excluded.push_back(part.query->must_not[0]);
      else (part.must ? required : optional).push_back(part.query);
    }
    auto minimum = required.empty() && !optional.empty() ? 1u : 0u;
    return make_bool(std::move(required), std::move(optional), std::move(excluded), minimum);
  }

  /// Clauses joined by AND; with AND as the default also those that merely stand side by side.
  Result<QueryPtr> all_of(const std::string& field, int depth, bool& must) {
    std::vector<QueryPtr> parts;
    for (;;) {
      auto q = negated(field, depth, must);
      if (!q) return q;
      parts.push_back(*q);
      space();
      if (word("AND") || word("&&")) {
        space();
        if (done() || peek() == ')') return wrong("an operand is missing");
        continue;
      }
      if (!options_.and_by_default || done() || peek() == ')' || at_word("OR") || at_word("||")) break;
    }
    return parts.size() == 1 ? parts[0] : make_bool(std::move(parts), {}, {}, 0);
  }

  Result<QueryPtr> negated(const std::string& field, int depth, bool& must) {
    space();
    if (word("NOT") || peek() == '!' || peek() == '-') {
      if (peek() == '!' || peek() == '-') ++at_;
      if (depth > depth_max) return wrong("nested too deeply");
      auto q = negated(field, depth + 1, must);
      if (!q) return q;
      return make_bool({}, {}, {*q}, 0);
    }
    if (peek() == '+') {
      ++at_;
      must = true;
      return negated(field, depth + 1, must);
    }
    return atom(field, depth);
  }

  Result<QueryPtr> atom(std::string field, int depth) {
    if (text_.substr(at_).starts_with("*:*")) {
      at_ += 3;
      return match_all();
    }
    if (auto name = field_name()) {
      if (*name == "_exists_") return exists();
      field = *name == "*" ? "" : *name;
    }
    Result<QueryPtr> q = match_all();
    switch (peek()) {
      case '\0': return wrong("an operand is missing");
      case '(': q = group(field, depth); break;
      case '"': q = phrase(field); break;
      case '[': case '{': q = range(field); break;
      case '<': case '>': q = compare(field); break;
      case '/': q = regexp(field); break;
      case ')': case ']': case '}': case ':': case '^': case '~': return wrong(fmt::format("unexpected '{}'", peek()));
      default: q = term(field);
    }
    if (q && peek() == '^') {  // a boost changes scores, and lines are sorted by time
      ++at_;
      while (std::string_view("0123456789.").contains(peek()) && peek()) ++at_;
    }
    return q;
  }

  std::optional<std::string> field_name() {
    std::string name;
    for (std::size_t i = at_; i < text_.size(); ++i) {
      char c = text_[i];
      if (c == '\\' && i + 1 < text_.size()) {
        name.push_back(text_[++i]);
      } else if (c == ':' && !name.empty()) {
        at_ = i + 1;
        space();
        return name;
      } else if (std::string_view(" \t\r\n()[]{}\"^~!+/:").contains(c)) {
        return std::nullopt;
      } else {
        name.push_back(c);
      }
    }
    return std::nullopt;
  }

  Result<QueryPtr> exists() {
    auto name = chunk();
    if (name.empty()) return wrong("_exists_ wants a field");
    return make_exists(name);
  }

  Result<QueryPtr> group(const std::string& field, int depth) {
    ++at_;
    space();
    if (peek() == ')') return wrong("empty parentheses");
    auto q = any_of(field, depth + 1);
    if (!q) return q;
    space();
    if (peek() != ')') return wrong("')' is missing");
    ++at_;
    return q;
  }

  Result<std::string> quoted() {
    std::string out;
    for (++at_; !done(); ++at_) {
      if (peek() == '\\' && at_ + 1 < text_.size()) out.push_back(text_[++at_]);
      else if (peek() == '"') return ++at_, out;
      else out.push_back(peek());
    }
    return wrong("'\"' is missing");
  }

  Result<QueryPtr> phrase(const std::string& field) {
    auto text = quoted();
    if (!text) return fail(text.error());
    int slop = 0;
    if (peek() == '~') {
      ++at_;
      while (peek() >= '0' && peek() <= '9' && slop < 1000) slop = slop * 10 + (text_[at_++] - '0');
    }
    if (field.ends_with(".keyword") || field == "_id" || field == "_index") return make_term(field, *text);
    return make_phrase(field, *text, slop);
  }

  Result<std::string> bound() {
    space();
    if (peek() == '"') return quoted();
    std::string out;
    while (!done() && !std::string_view(" \t\r\n]}").contains(peek())) out.push_back(text_[at_++]);
    return out;
  }

  DateOptions dates() const { return {{}, options_.zone}; }

  Result<QueryPtr> range(const std::string& field) {
    bool low_in = peek() == '[';
    ++at_;
    auto low = bound();
    if (!low) return fail(low.error());
    space();
    if (!word("TO")) return wrong("a range wants TO");
    auto high = bound();
    if (!high) return fail(high.error());
    space();
    if (peek() != ']' && peek() != '}') return wrong("']' or '}' is missing");
    bool high_in = peek() == ']';
    ++at_;
    auto q = std::make_shared<Query>();
    q->kind = Query::Kind::range;
    q->field = field;
    if (!low->empty() && *low != "*") q->from = make_bound(*low, low_in, false, now_, dates());
    if (!high->empty() && *high != "*") q->to = make_bound(*high, high_in, true, now_, dates());
    return QueryPtr(q);
  }

  Result<QueryPtr> compare(const std::string& field) {
    bool less = peek() == '<';
    ++at_;
    bool inclusive = peek() == '=';
    if (inclusive) ++at_;
    auto value = bound_word();
    if (value.empty()) return wrong("a comparison wants a value");
    auto q = std::make_shared<Query>();
    q->kind = Query::Kind::range;
    q->field = field;
    (less ? q->to : q->from) = make_bound(value, inclusive, less, now_, dates());
    return QueryPtr(q);
  }

  std::string bound_word() {
    space();
    if (peek() == '"') return quoted().value_or("");
    std::string out;
    while (!done() && !std::string_view(" \t\r\n)").contains(peek())) out.push_back(text_[at_++]);
    return out;
  }

  Result<QueryPtr> regexp(const std::string& field) {
    std::string pattern;
    for (++at_; !done(); ++at_) {
      if (peek() == '\\' && peek(1) == '/') pattern.push_back('/'), ++at_;
      else if (peek() == '/') {
        ++at_;
        return make_regexp(field, pattern);
      } else {
        pattern.push_back(peek());
      }
    }
    return wrong("'/' is missing; quote a path: \"/var/log\"");
  }

  /// A run of term characters, escapes taken out; wild_ says whether an unescaped * or ? is in it.
  std::string chunk() {
    std::string out;
    wild_ = false;
    raw_.clear();
    while (!done()) {
      char c = peek();
      if (c == '\\' && at_ + 1 < text_.size()) {
        raw_ += text_.substr(at_, 2);
        out.push_back(text_[at_ + 1]);
        at_ += 2;
        continue;
      }
      if (std::string_view(" \t\r\n()[]{}\"^~:").contains(c)) break;
      wild_ = wild_ || c == '*' || c == '?';
      raw_.push_back(c);
      out.push_back(c);
      ++at_;
    }
    return out;
  }

  Result<QueryPtr> term(const std::string& field) {
    auto text = chunk();
    if (text.empty()) return wrong("an operand is missing");
    if (peek() == '~') {
      ++at_;
      int edits = -1;
      if (peek() >= '0' && peek() <= '9') edits = text_[at_] - '0';
      while (std::string_view("0123456789.").contains(peek()) && peek()) ++at_;
      return make_fuzzy(field, text, edits);
    }
    if (raw_ == "*") {
      return field.empty() ? match_all() : make_exists(field);
    }
    bool exact = field.ends_with(".keyword");
    if (wild_) return make_wildcard(field, raw_, !exact);
    if (exact || field == "_id" || field == "_index") return make_term(field, text);
    if (field == "@timestamp") return make_term_or_date(field, text, now_);
    auto tokens = tokens_of(text);
    if (tokens.size() == 1 && tokens[0].size() == text.size()) return make_match(field, text, true);
    // 10.251.203.80 or a-b: its words, adjacent; a value that equals it whole matches too (numbers, paths without words).
    std::vector<QueryPtr> forms{make_term(field, text)};
    if (!tokens.empty()) forms.push_back(make_phrase(field, text, 0));
    return make_bool({}, std::move(forms), {}, 1);
  }

  std::string_view text_;
  const QueryStringOptions& options_;
  Wall now_;
  std::size_t at_ = 0;
  bool wild_ = false;
  std::string raw_;
};

}  // namespace

Result<QueryPtr> parse_query_string(std::string_view text, const QueryStringOptions& options, Wall now) {
  if (text.size() > 64 * 1024) return fail(Errc::invalid, "Failed to parse query: longer than 64 KiB");
  return Parser(text, options, now).run();
}

namespace {

/// or := and ('|' and)* ; and := clause ('+' clause)* ; clauses that stand side by side follow the default operator.
class SimpleParser {
 public:
  SimpleParser(std::string_view text, const QueryStringOptions& options) : text_(text), options_(options) {}

  QueryPtr run() {
    auto q = list(0);
    return q ? q : match_none();
  }

 private:
  bool done() const { return at_ >= text_.size(); }
  char peek() const { return done() ? '\0' : text_[at_]; }

  QueryPtr list(int depth) {
    QueryPtr left;
    char joined = 0;
    while (!done()) {
      char c = peek();
      if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        ++at_;
      } else if (c == '+' || c == '|') {
        joined = c;
        ++at_;
      } else if (c == ')') {
        ++at_;
        if (depth > 0) return left;
      } else if (auto right = clause(depth)) {
        bool both = joined == '+' || (joined == 0 && options_.and_by_default);
        left = !left ? right : both ? make_bool({left, right}, {}, {}, 0) : make_bool({}, {left, right}, {}, 1);
        joined = 0;
      }
    }
    return left;
  }

  QueryPtr clause(int depth) {
    if (peek() == '-') {
      ++at_;
      auto inner = done() || depth > depth_max ? nullptr : clause(depth + 1);
      return inner ? make_bool({}, {}, {inner}, 0) : nullptr;
    }
    if (peek() == '(' && depth < depth_max) {
      ++at_;
      return list(depth + 1);
    }
    if (peek() == '"') return phrase();
    return word();
  }

  int number_after_tilde() {
    if (peek() != '~') return -2;
    ++at_;
    int n = -1;
    while (peek() >= '0' && peek() <= '9') n = std::min(1000, std::max(n, 0) * 10 + (text_[at_++] - '0'));
    return n;
  }

  QueryPtr phrase() {
    std::string out;
    for (++at_; !done() && peek() != '"'; ++at_) {
      if (peek() == '\\' && at_ + 1 < text_.size()) ++at_;
      out.push_back(peek());
    }
    if (!done()) ++at_;
    int slop = std::max(0, number_after_tilde());
    return make_phrase(options_.field, out, slop);
  }

  QueryPtr word() {
    std::string out;
    bool prefix = false;
    while (!done() && !std::string_view(" \t\r\n+|()\"~").contains(peek())) {
      if (peek() == '\\' && at_ + 1 < text_.size()) ++at_;
      else if (peek() == '*' && (at_ + 1 == text_.size() || std::string_view(" \t\r\n+|()").contains(text_[at_ + 1]))) {
        prefix = true;
        ++at_;
        break;
      }
      out.push_back(text_[at_++]);
    }
    int edits = number_after_tilde();
    if (out.empty()) {
      if (prefix) return match_all();
      if (!done() && edits == -2) ++at_;
      return nullptr;
    }
    if (edits > -2) return make_fuzzy(options_.field, out, edits);
    auto q = std::make_shared<Query>(*make_match(options_.field, out, options_.and_by_default));
    q->last_is_prefix = prefix;
    return q;
  }

  std::string_view text_;
  const QueryStringOptions& options_;
  std::size_t at_ = 0;
};

}  // namespace

QueryPtr parse_simple_query_string(std::string_view text, const QueryStringOptions& options) { return SimpleParser(text.substr(0, 64 * 1024), options).run(); }

}  // namespace croft::logs
