#pragma once
// Queries as a tree, and whether a document matches. Made by query_dsl (Elasticsearch's JSON) and query_string (Lucene's syntax).

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "logs/query/dates.hpp"
#include "logs/query/document.hpp"

namespace re2 {
class RE2;
}

namespace croft::logs {

using re2::RE2;

struct Query;
using QueryPtr = std::shared_ptr<const Query>;

/// One end of a range, in each of the forms that a field's values may have.
struct Bound {
  bool given = false, inclusive = true;
  std::string text;
  std::optional<double> number;
  std::optional<Wall> date;
};

struct Query {
  enum class Kind : std::uint8_t { all, none, term, match, phrase, range, exists, prefix, wildcard, regexp, fuzzy, ids, boolean };
  Kind kind = Kind::all;
  std::string field;                    ///< "" : all fields
  std::string text;                     ///< term, prefix, wildcard (lower-cased unless exact)
  std::vector<std::string> tokens;      ///< match, phrase; ids
  std::optional<double> number;         ///< term: its text as a number
  std::optional<bool> truth;
  bool all_tokens = false;              ///< match: AND
  std::size_t tokens_min = 1;           ///< match: so many of them, unless all
  bool ignore_case = false, last_is_prefix = false;
  int slop = 0;                         ///< fuzzy: edits
  Bound from, to;
  std::shared_ptr<const RE2> pattern;   ///< wildcard, regexp
  std::vector<QueryPtr> must, should, must_not;
  std::size_t should_min = 0;
};

bool matches(const Query& query, DocumentReader& document);

/// Bounds on @timestamp that every match keeps; for skipping parts and blocks.
struct TimeSpan {
  Wall from = Wall(Millis(std::numeric_limits<std::int64_t>::min())), to = Wall(Millis(std::numeric_limits<std::int64_t>::max()));
};
TimeSpan time_span(const Query& query);

/// Whether the text's words fit a match, phrase, prefix, wildcard, regexp or fuzzy query; for highlighting.
bool word_matches(const Query& query, std::string_view word);

QueryPtr match_all();
QueryPtr match_none();
QueryPtr make_term(std::string field, std::string text);
QueryPtr make_match(std::string field, std::string_view text, bool all_tokens);
QueryPtr make_phrase(std::string field, std::string_view text, int slop);
QueryPtr make_bool(std::vector<QueryPtr> must, std::vector<QueryPtr> should, std::vector<QueryPtr> must_not, std::size_t should_min);
/// Errors   invalid (a pattern that RE2 refuses).
Result<QueryPtr> make_wildcard(std::string field, std::string_view pattern, bool ignore_case);
Result<QueryPtr> make_regexp(std::string field, std::string_view pattern);
QueryPtr make_fuzzy(std::string field, std::string_view text, int edits);
QueryPtr make_exists(std::string field);
QueryPtr make_range(std::string field, Bound from, Bound to);
/// A day, month or moment in any form on @timestamp matches all of it; other fields and texts: a term.
QueryPtr make_term_or_date(std::string field, std::string text, Wall now);
Bound make_bound(std::string_view text, bool inclusive, bool upper, Wall now, const DateOptions& options = {});

}  // namespace croft::logs
