#include "logs/query/search.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.hpp"
#include "base/text.hpp"
#include "logs/query/collect.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t clock_every = 64u << 10;  // bytes between two looks at the clock: a pattern over a long line may take a millisecond
constexpr std::size_t row_weight = 4u << 10;    // of a row beside its bytes

boost::json::value shown_date(Wall at, const SortKey& key) {
  if (key.format.empty() || key.format == "epoch_millis") return at.time_since_epoch().count();
  return boost::json::string(print_date(at, key.format));
}

int compare_one(const boost::json::value& a, const boost::json::value& b, const SortKey& key) {
  if (a.is_null() || b.is_null()) {
    if (a.is_null() && b.is_null()) return 0;
    return a.is_null() == key.missing_first ? -1 : 1;
  }
  int c;
  if (a.is_int64() && b.is_int64()) {
    c = a.get_int64() < b.get_int64() ? -1 : a.get_int64() > b.get_int64() ? 1 : 0;
  } else if (a.is_number() && b.is_number()) {
    auto x = a.to_number<double>(), y = b.to_number<double>();
    c = x < y ? -1 : x > y ? 1 : 0;
  } else if (a.is_string() && b.is_string()) {
    c = std::string_view(a.get_string()).compare(std::string_view(b.get_string()));
  } else {
    c = a.is_number() ? -1 : 1;
  }
  return key.descending ? -c : c;
}

/// The longest word that the text of every match must hold, in lower case; "" when there is none to tell by.
std::string word_in_all(const Query& q) {
  using Kind = Query::Kind;
  std::string longest;
  auto consider = [&](const std::string& word) {
    bool plain = std::all_of(word.begin(), word.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
    if (plain && word.size() > longest.size() && !to_double(word) && word != "true" && word != "false") longest = word;
  };
  if (q.field == "_id" || q.field == "_index" || q.field == "@timestamp") return longest;
  bool whole = q.kind == Kind::phrase || q.kind == Kind::term || (q.kind == Kind::match && (q.all_tokens || q.tokens.size() == 1));
  if (whole && !q.number && !q.truth)
    for (std::size_t i = 0; i < q.tokens.size(); ++i) consider(q.tokens[i]);
  if (q.kind == Kind::boolean) {
    for (const auto& part : q.must) consider(word_in_all(*part));
    if (q.must.empty() && q.should.size() == 1 && q.should_min == 1) consider(word_in_all(*q.should[0]));
  }
  return longest;
}

/// Looks for a word in JSON text whatever its case, by Horspool's rule. True also where escapes could hide it.
class WordFinder {
 public:
  explicit WordFinder(std::string word) : word_(std::move(word)) {
    skip_.fill(static_cast<std::uint8_t>(std::min<std::size_t>(word_.size(), 255)));
    for (std::size_t i = 0; i + 1 < word_.size(); ++i) {
      auto far = static_cast<std::uint8_t>(std::min<std::size_t>(word_.size() - 1 - i, 255));
      skip_[static_cast<unsigned char>(word_[i])] = far;
      if (word_[i] >= 'a' && word_[i] <= 'z') skip_[static_cast<unsigned char>(word_[i] - 32)] = far;
    }
  }
  [[nodiscard]] bool empty() const { return word_.empty(); }
  [[nodiscard]] bool may_hold(std::string_view text) const {
    auto size = word_.size();
    for (std::size_t at = size - 1; at < text.size(); at += skip_[static_cast<unsigned char>(text[at])]) {
      std::size_t i = 0;
      while (i < size && folded(text[at - i]) == word_[size - 1 - i]) ++i;
      if (i == size) return true;
    }
    return text.find("\\u") != std::string_view::npos;
  }

 private:
  static char folded(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
  std::string word_;
  std::array<std::uint8_t, 256> skip_{};
};

class Search {
 public:
  Search(const StoreView& view, const SearchRequest& request, const std::atomic<bool>* cancelled)
      : view_(view), request_(request), cancelled_(cancelled), span_(time_span(*request.query)), word_(word_in_all(*request.query)), until_(std::chrono::steady_clock::now() + request.limit),
        collectors_(make_collectors(request.aggregations, budget_)), want_(request.count_only ? 0 : request.from + request.size),
        by_arrival_(request.sort.size() == 1 && request.sort[0].field == "_doc" && !request.sort[0].descending),
        newest_first_(!request.sort.empty() && request.sort[0].field == "@timestamp" && request.sort[0].descending) {
    budget_.text = request.bytes_max;
    for (const auto& a : request.aggregations) global_ = global_ || a->kind == Aggregation::Kind::global;
  }

  SearchResult run() {
    if (!counted_by_metadata()) {
      if (by_arrival_) scan_by_arrival();
      else scan_newest_first();
    }
    std::sort(heap_.begin(), heap_.end(), [&](const Hit& a, const Hit& b) { return before(a, b); });
    auto skip = std::min(request_.from, heap_.size());
    result_.hits.assign(std::make_move_iterator(heap_.begin() + static_cast<std::ptrdiff_t>(skip)), std::make_move_iterator(heap_.end()));
    result_.bytes = held_;
    result_.too_large = result_.too_large || budget_.too_large;
    if (!request_.aggregations.empty() && !budget_.spent && !result_.too_large) {
      JsonWriter w;
      w.begin_object();
      write_collectors(w, collectors_, request_.typed_keys);
      w.end_object();
      result_.aggregations = std::move(w).take();
    }
    result_.too_many_buckets = budget_.spent;
    return std::move(result_);
  }

 private:
  /// How many there are altogether is known without looking at any.
  bool counted_by_metadata() {
    if (request_.query->kind != Query::Kind::all || want_ > 0 || !collectors_.empty() || request_.post_filter || request_.terminate_after > 0) return false;
    std::uint64_t total = 0;
    for (const auto& index : view_.indices) {
      std::uint64_t rows = 0;
      for (const auto& part : index.parts) rows += part->rows();
      for (const auto& piece : index.memory.pieces) rows += piece.count;
      total += rows - std::min<std::uint64_t>(rows, index.deleted->size());
    }
    result_.total = std::min(total, request_.total_limit);
    result_.total_is_lower_bound = total > request_.total_limit;
    return true;
  }

  void scan_newest_first() {
    for (auto index = view_.indices.rbegin(); index != view_.indices.rend() && !over_; ++index) {
      index_ = &*index;
      scan_memory(*index);
      for (auto part = index->parts.rbegin(); part != index->parts.rend() && !over_; ++part) scan(**part);
    }
  }

  void scan_by_arrival() {
    std::vector<std::pair<const Part*, const IndexView*>> parts;
    for (const auto& index : view_.indices)
      for (const auto& part : index.parts) parts.emplace_back(part.get(), &index);
    std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.first->first_seq() < b.first->first_seq(); });
    for (const auto& [part, index] : parts) {
      if (over_) return;
      if (request_.after_seq && part->last_seq() <= *request_.after_seq) continue;
      if (enough() && part->first_seq() > heap_.front().seq) continue;
      index_ = index;
      scan(*part);
    }
    for (const auto& index : view_.indices) {
      index_ = &index;
      scan_memory(index);
    }
  }

  /// Whether another row can only matter by pushing a hit out.
  bool enough() const { return want_ > 0 && heap_.size() >= want_ && collectors_.empty() && (result_.total_is_lower_bound || request_.total_limit == 0); }

  void scan_memory(const IndexView& index) {
    for (const auto& piece : index.memory.pieces)
      for (std::size_t i = 0; i < piece.count && !over_; ++i) {
        const auto& row = piece.chunk->rows[i];
        consider({row.seq, row.at, row.id, row.source});
      }
  }

  bool before(const Hit& a, const Hit& b) const {
    if (int c = compare_keys(a.keys, b.keys, request_.sort)) return c < 0;
    return request_.sort.empty() ? a.seq > b.seq : a.seq < b.seq;
  }

  bool too_old(Wall last) const { return newest_first_ && enough() && heap_.front().at > last; }

  void scan(const Part& part) {
    if (!global_ && (part.last() < span_.from || part.first() > span_.to)) return;
    if (too_old(part.last())) return;
    for (std::size_t b = part.blocks().size(); b-- > 0 && !over_;) {
      const auto& block = part.blocks()[b];
      if (!global_ && (block.last < span_.from || block.first > span_.to)) continue;
      if (too_old(block.last)) return;
      auto ok = part.read_block(b, [&](const RowView& row) {
        consider(row);
        return !over_;
      });
      if (!ok) result_.failures.push_back(ok.error().context);
    }
  }

  bool in_question(const RowView& row) const {
    if (row.at < span_.from || row.at > span_.to) return false;
    return word_.empty() || word_.may_hold(row.source);
  }

  void consider(const RowView& row) {
    if (since_clock_ += row_weight + row.source.size(); since_clock_ >= clock_every) {
      since_clock_ = 0;
      over_ = result_.timed_out = (cancelled_ && *cancelled_) || std::chrono::steady_clock::now() > until_;
      if (over_) return;
    }
    if (!index_->deleted->empty() && index_->deleted->contains(row.seq)) return;
    if (request_.after_seq && by_arrival_ && row.seq <= *request_.after_seq) return;
    bool candidate = in_question(row);
    if (!candidate && !global_) return;
    reader_.set(row, index_->name);
    if (global_)
      for (auto& c : collectors_)
        if (c.what().kind == Aggregation::Kind::global) c.add(reader_);
    if (!candidate || !matches(*request_.query, reader_)) return;
    for (auto& c : collectors_)
      if (c.what().kind != Aggregation::Kind::global) c.add(reader_);
    if (budget_.exceeded()) over_ = true;
    if (request_.post_filter && !matches(*request_.post_filter, reader_)) return;
    if (result_.total < request_.total_limit) ++result_.total;
    else result_.total_is_lower_bound = true;
    if (request_.terminate_after > 0 && ++taken_ >= request_.terminate_after) over_ = result_.terminated_early = true;
    if (want_ > 0) offer(row);
    else if (result_.total_is_lower_bound && collectors_.empty()) over_ = true;  // nothing more to learn
  }

  void offer(const RowView& row) {
    Hit hit{std::string(), std::string(), {}, row.seq, row.at, sort_keys_of(reader_, request_.sort)};
    if (!request_.after.empty()) {
      auto c = compare_keys(hit.keys, request_.after, request_.sort);
      if (c < 0 || (c == 0 && (!request_.after_seq || row.seq <= *request_.after_seq))) return;
    }
    auto worse = [&](const Hit& a, const Hit& b) { return before(a, b); };
    if (heap_.size() >= want_ && !before(hit, heap_.front())) return;
    hit.index = index_->name;
    hit.id = row.id;
    hit.source = row.source;
    if (shortened_) hit.source = request_.shorten(hit.source);
    held_ += bytes_of(hit);
    heap_.push_back(std::move(hit));
    std::push_heap(heap_.begin(), heap_.end(), worse);
    if (heap_.size() > want_) {
      std::pop_heap(heap_.begin(), heap_.end(), worse);
      held_ -= bytes_of(heap_.back());
      heap_.pop_back();
    }
    if (held_ > request_.bytes_max) make_room();
  }

  /// Only now, because it takes a parse of each: leaves of the sources what is shown. Where that is still too much, the search is over.
  void make_room() {
    if (request_.shorten && !std::exchange(shortened_, true)) {
      held_ = 0;
      for (auto& hit : heap_) {
        hit.source = request_.shorten(hit.source);
        held_ += bytes_of(hit);
      }
    }
    if (held_ > request_.bytes_max) over_ = result_.too_large = true;
  }

  const StoreView& view_;
  const SearchRequest& request_;
  const std::atomic<bool>* cancelled_;
  TimeSpan span_;
  WordFinder word_;
  std::chrono::steady_clock::time_point until_;
  BucketBudget budget_;
  std::vector<Collector> collectors_;
  std::size_t want_;
  bool by_arrival_, newest_first_, global_ = false;
  DocumentReader reader_;
  const IndexView* index_ = nullptr;
  std::vector<Hit> heap_;  // the worst hit on top
  std::size_t held_ = 0;   // bytes of them
  bool shortened_ = false;
  SearchResult result_;
  std::uint64_t taken_ = 0;
  std::size_t since_clock_ = 0;
  bool over_ = false;
};

}  // namespace

std::size_t bytes_of(const Hit& hit) {
  auto bytes = sizeof(Hit) + hit.index.size() + hit.id.size() + hit.source.size() + hit.keys.size() * sizeof(boost::json::value);
  for (const auto& key : hit.keys)
    if (key.is_string()) bytes += key.get_string().size();
  return bytes;
}

std::vector<boost::json::value> sort_keys_of(DocumentReader& d, const std::vector<SortKey>& sort) {
  std::vector<boost::json::value> out;
  out.reserve(sort.size());
  for (const auto& key : sort) {
    if (key.field == "@timestamp") out.push_back(shown_date(d.row().at, key));
    else if (key.field == "_doc" || key.field == "_shard_doc" || key.field == "_seq_no") out.emplace_back(static_cast<std::int64_t>(d.row().seq));
    else if (key.field == "_score") out.emplace_back(1.0);
    else if (auto v = d.first(key.field)) {
      if (v->kind == Value::Kind::number && v->whole && std::abs(v->number) < 9e15) out.emplace_back(static_cast<std::int64_t>(v->number));
      else if (v->kind == Value::Kind::number) out.emplace_back(v->number);
      else out.emplace_back(boost::json::string(value_text(*v)));
    } else {
      out.emplace_back(nullptr);
    }
  }
  return out;
}

int compare_keys(const std::vector<boost::json::value>& a, const std::vector<boost::json::value>& b, const std::vector<SortKey>& sort) {
  for (std::size_t i = 0; i < sort.size() && i < a.size() && i < b.size(); ++i)
    if (int c = compare_one(a[i], b[i], sort[i])) return c;
  return 0;
}

Result<std::vector<SortKey>> parse_sort(const boost::json::value& sort) {
  std::vector<SortKey> out;
  auto add = [&](SortKey key) {
    if (key.field.ends_with(".keyword")) key.field.resize(key.field.size() - 8);
    out.push_back(std::move(key));
  };
  auto take = [&](const json::value& v) -> Status {
    if (v.is_string()) {
      std::string text(v.get_string());
      auto colon = text.rfind(':');
      add({text.substr(0, colon), text == "_score" || (colon != std::string::npos && text.substr(colon + 1) == "desc"), false, {}});
      return {};
    }
    if (!v.is_object()) return fail(Errc::invalid, "malformed sort format, within the sort array, an object, or an actual string are allowed");
    for (const auto& member : v.get_object()) {
      SortKey key{std::string(member.key()), false, false, json::text(member.value(), "format")};
      if (key.field == "_script" || key.field == "_geo_distance") return fail(Errc::invalid, "sort by [{}] is not supported", key.field);
      auto order = lower(member.value().is_string() ? std::string(member.value().get_string()) : json::text(member.value(), "order", member.key() == "_score" ? "desc" : "asc"));
      if (order != "asc" && order != "desc") return fail(Errc::invalid, "Unknown SortOrder [{}]", order);
      key.descending = order == "desc";
      key.missing_first = json::text(member.value(), "missing") == "_first";
      add(std::move(key));
    }
    return {};
  };
  if (!sort.is_array()) {
    if (auto ok = take(sort); !ok) return fail(ok.error());
    return out;
  }
  for (const auto& v : sort.get_array())
    if (auto ok = take(v); !ok) return fail(ok.error());
  return out;
}

SearchResult search(const StoreView& view, const SearchRequest& request, const std::atomic<bool>* cancelled) { return Search(view, request, cancelled).run(); }

}  // namespace croft::logs
