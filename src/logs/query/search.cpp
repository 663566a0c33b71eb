#include "logs/query/search.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "logs/query/collect.hpp"

namespace croft::logs {

namespace {

constexpr std::size_t clock_every = 512;  // rows between two looks at the clock

/// Sort keys of a document, as the reply shows them.
std::vector<boost::json::value> keys_of(DocumentReader& d, const std::vector<SortKey>& sort) {
  std::vector<boost::json::value> out;
  for (const auto& key : sort) {
    if (key.field == "@timestamp") out.emplace_back(d.row().at.time_since_epoch().count());
    else if (key.field == "_doc" || key.field == "_shard_doc" || key.field == "_seq_no") out.emplace_back(static_cast<std::int64_t>(d.row().seq));
    else if (key.field == "_score") out.emplace_back(1.0);
    else if (auto v = d.first(key.field)) {
      if (v->kind == Value::Kind::number) out.emplace_back(v->number);
      else out.emplace_back(boost::json::string(value_text(*v)));
    } else {
      out.emplace_back(nullptr);
    }
  }
  return out;
}

int compare(const boost::json::value& a, const boost::json::value& b, const SortKey& key) {
  if (a.is_null() || b.is_null()) {
    if (a.is_null() && b.is_null()) return 0;
    return a.is_null() == key.missing_first ? -1 : 1;
  }
  int c;
  if (a.is_number() && b.is_number()) {
    auto x = a.to_number<double>(), y = b.to_number<double>();
    c = x < y ? -1 : x > y ? 1 : 0;
  } else if (a.is_string() && b.is_string()) {
    c = std::string_view(a.get_string()).compare(std::string_view(b.get_string()));
  } else {
    c = a.is_number() ? -1 : 1;
  }
  return key.descending ? -c : c;
}

int compare(const std::vector<boost::json::value>& a, const std::vector<boost::json::value>& b, const std::vector<SortKey>& sort) {
  for (std::size_t i = 0; i < sort.size() && i < a.size() && i < b.size(); ++i)
    if (int c = compare(a[i], b[i], sort[i])) return c;
  return 0;
}

class Search {
 public:
  Search(const StoreView& view, const SearchRequest& request, const std::atomic<bool>* cancelled)
      : view_(view), request_(request), cancelled_(cancelled), span_(time_span(*request.query)), until_(std::chrono::steady_clock::now() + request.limit),
        collectors_(make_collectors(request.aggregations)), want_(request.count_only ? 0 : request.from + request.size) {}

  SearchResult run() {
    for (auto index = view_.indices.rbegin(); index != view_.indices.rend() && !over_; ++index) {
      reader_index_ = index->name;
      for (const auto& piece : index->memory.pieces)
        for (std::size_t i = 0; i < piece.count && !over_; ++i) {
          const auto& row = piece.chunk->rows[i];
          consider({row.seq, row.at, row.id, row.source});
        }
      for (auto part = index->parts.rbegin(); part != index->parts.rend() && !over_; ++part) scan(**part);
    }
    std::sort(heap_.begin(), heap_.end(), [&](const Hit& a, const Hit& b) { return before(a, b); });
    auto skip = std::min(request_.from, heap_.size());
    result_.hits.assign(std::make_move_iterator(heap_.begin() + static_cast<std::ptrdiff_t>(skip)), std::make_move_iterator(heap_.end()));
    if (!request_.aggregations.empty()) {
      JsonWriter w;
      w.begin_object();
      write_collectors(w, collectors_);
      w.end_object();
      result_.aggregations = std::move(w).take();
    }
    return std::move(result_);
  }

 private:
  bool before(const Hit& a, const Hit& b) const {
    if (int c = compare(a.keys, b.keys, request_.sort)) return c < 0;
    return request_.sort.empty() ? a.seq > b.seq : a.seq < b.seq;
  }

  void scan(const Part& part) {
    if (part.last() < span_.from || part.first() > span_.to) return;
    for (std::size_t b = part.blocks().size(); b-- > 0 && !over_;) {
      const auto& block = part.blocks()[b];
      if (block.last < span_.from || block.first > span_.to) continue;
      auto ok = part.read_block(b, [&](const RowView& row) {
        consider(row);
        return !over_;
      });
      if (!ok) result_.failures.push_back(ok.error().context);
    }
  }

  void consider(const RowView& row) {
    if (++rows_ % clock_every == 0 && ((cancelled_ && *cancelled_) || std::chrono::steady_clock::now() > until_)) {
      over_ = true;
      result_.timed_out = true;
      return;
    }
    if (row.at < span_.from || row.at > span_.to || (!view_.deleted->empty() && view_.deleted->contains(row.seq))) return;
    reader_.set(row, reader_index_);
    if (!matches(*request_.query, reader_)) return;
    if (result_.total < request_.total_limit) ++result_.total;
    else result_.total_is_lower_bound = true;
    for (auto& c : collectors_) c.add(reader_);
    if (want_ == 0) {
      if (result_.total_is_lower_bound && collectors_.empty()) over_ = true;  // nothing more to learn
      return;
    }
    Hit hit{std::string(reader_index_), std::string(row.id), {}, row.seq, keys_of(reader_, request_.sort)};
    if (!request_.after.empty() && compare(hit.keys, request_.after, request_.sort) <= 0) return;
    auto worse = [&](const Hit& a, const Hit& b) { return before(a, b); };
    if (heap_.size() >= want_ && !before(hit, heap_.front())) return;
    hit.source = row.source;
    heap_.push_back(std::move(hit));
    std::push_heap(heap_.begin(), heap_.end(), worse);
    if (heap_.size() > want_) {
      std::pop_heap(heap_.begin(), heap_.end(), worse);
      heap_.pop_back();
    }
  }

  const StoreView& view_;
  const SearchRequest& request_;
  const std::atomic<bool>* cancelled_;
  TimeSpan span_;
  std::chrono::steady_clock::time_point until_;
  std::vector<Collector> collectors_;
  std::size_t want_;
  DocumentReader reader_;
  std::string_view reader_index_;
  std::vector<Hit> heap_;  // the worst hit on top
  SearchResult result_;
  std::uint64_t rows_ = 0;
  bool over_ = false;
};

}  // namespace

SearchResult search(const StoreView& view, const SearchRequest& request, const std::atomic<bool>* cancelled) { return Search(view, request, cancelled).run(); }

}  // namespace croft::logs
