#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "base/text.hpp"
#include "logs/es_api.hpp"
#include "secure/caller.hpp"
#include "store_fixture.hpp"

namespace croft::logs {
namespace {

namespace asio = boost::asio;

class EsFace : public StoreTest {
 protected:
  explicit EsFace(const EsOptions& options = {"bench"}) { add_es_routes(router_, *store_, pool_, options); }
  net::Response call(std::string method, std::string target, std::string body = "", std::string type = "application/json", std::string accept = "") {
    net::Request r;
    r.method = std::move(method);
    r.target = target;
    auto question = target.find('?');
    r.path = *url_decode(target.substr(0, question));
    if (question != std::string::npos) r.query = net::Query(target.substr(question + 1));
    if (!body.empty() && !type.empty()) r.headers.set("Content-Type", type);
    if (!accept.empty()) r.headers.set("Accept", accept);
    r.body = std::move(body);
    r.local = "127.0.0.1:9200";
    if (change_) change_(r);
    auto work = router_.handle(std::move(r));
    auto answer = asio::co_spawn(io_, std::move(work), asio::use_future);
    while (answer.wait_for(std::chrono::seconds(0)) != std::future_status::ready) io_.run_one_for(std::chrono::milliseconds(50)), io_.restart();
    return answer.get();
  }
  json::value ask(std::string method, std::string target, std::string body = "", int status = 200) {
    auto answer = call(method, target, std::move(body));
    EXPECT_EQ(answer.status, status) << method << " " << target << ": " << answer.body.substr(0, 500);
    auto parsed = json::parse(answer.body);
    EXPECT_TRUE(parsed) << answer.body.substr(0, 200);
    return parsed.value_or(json::value());
  }
  /// What stands at "a.b.0.c".
  static std::string at(const json::value& v, std::string_view path) {
    const auto* here = &v;
    for (const auto& step : split(path, '/')) {
      if (here->is_object() && here->get_object().contains(step)) here = &here->get_object().at(step);
      else if (here->is_array() && to_int(step) && static_cast<std::size_t>(*to_int(step)) < here->get_array().size()) here = &here->get_array()[static_cast<std::size_t>(*to_int(step))];
      else return "(absent)";
    }
    return here->is_string() ? std::string(here->get_string()) : json::print(*here);
  }
  void fill() {
    std::string body;
    for (int i = 0; i < 12; ++i)
      body += fmt::format("{{\"index\":{{\"_index\":\"logstash-2024.05.0{}\",\"_id\":\"{}\"}}}}\n{{\"@timestamp\":\"2024-05-0{}T10:00:{:02}Z\",\"message\":\"request number {} was served\",\"n\":{},\"host\":\"h{}\",\"deep\":{{\"a\":1,\"b\":2}}}}\n", 1 + i / 6, i, 1 + i / 6, i, i, i, i % 2);
    auto reply = ask("POST", "/_bulk", body);
    EXPECT_EQ(at(reply, "errors"), "false");
  }
  asio::io_context io_;  // outlives the pools, whose threads let go of it last
  net::BlockingPool pool_{1};
  net::Router router_;
  std::function<void(net::Request&)> change_;  // what the gate would have done
};

TEST_F(EsFace, TellsClientsWhatTheyCheck) {
  auto answer = call("GET", "/");
  EXPECT_EQ(answer.headers.get("X-Elastic-Product"), "Elasticsearch");
  auto root = *json::parse(answer.body);
  EXPECT_EQ(at(root, "tagline"), "You Know, for Search");
  EXPECT_EQ(at(root, "version/number"), "7.17.28");
  EXPECT_EQ(at(root, "version/build_flavor"), "default");
  EXPECT_EQ(at(root, "version/build_hash").size(), 40u);
  EXPECT_EQ(call("HEAD", "/").status, 200);
  auto modern = call("GET", "/", "", "", "application/vnd.elasticsearch+json; compatible-with=8");
  EXPECT_EQ(modern.headers.get("Content-Type"), "application/vnd.elasticsearch+json; compatible-with=8");
  EXPECT_EQ(call("GET", "/nothing").headers.get("X-Elastic-Product"), "Elasticsearch");
  EXPECT_EQ(at(ask("GET", "/_license"), "license/status"), "active");
  EXPECT_EQ(at(ask("GET", "/_cluster/health"), "status"), "green");
  EXPECT_EQ(at(ask("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s"), "timed_out"), "false");
  EXPECT_EQ(at(ask("GET", "/_nodes/http"), "_nodes/total"), "1");
}

TEST_F(EsFace, ABulkAnswersEveryItemInItsPlace) {
  auto reply = ask("POST", "/_bulk",
                   "{\"index\":{\"_index\":\"a\"}}\n{\"x\":1}\n\n{\"create\":{\"_index\":\"a\",\"_id\":\"7\",\"_type\":\"_doc\"}}\n{\"x\":2}\n{\"create\":{\"_index\":\"a\",\"_id\":7}}\n{\"x\":3}\n"
                   "{\"index\":{\"_index\":\"A\"}}\n{}\n{\"index\":{\"_index\":\"a\"}}\nno json\n{\"delete\":{\"_index\":\"a\",\"_id\":\"7\"}}\n{\"index\":{\"_index\":\"a\",\"_id\":\"7\"},\"attempts\":0}\n{\"x\":4}\n"
                   "{\"index\":{\"_index\":\"a\",\"pipeline\":null}}\n{\"@timestamp\":\"not a date\"}\n");
  EXPECT_EQ(at(reply, "errors"), "true");
  const std::pair<const char*, const char*> expected[] = {{"index", "201"}, {"create", "201"}, {"create", "409"}, {"index", "400"}, {"index", "400"}, {"delete", "400"}, {"index", "200"}, {"index", "400"}};
  for (std::size_t i = 0; i < std::size(expected); ++i) EXPECT_EQ(at(reply, fmt::format("items/{}/{}/status", i, expected[i].first)), expected[i].second) << i;
  EXPECT_EQ(at(reply, "items/0/index/result"), "created");
  EXPECT_EQ(at(reply, "items/0/index/_type"), "_doc");
  EXPECT_EQ(at(reply, "items/2/create/error/type"), "version_conflict_engine_exception");
  EXPECT_EQ(at(reply, "items/3/index/error/type"), "invalid_index_name_exception");
  EXPECT_EQ(at(reply, "items/4/index/error/type"), "mapper_parsing_exception");
  EXPECT_EQ(at(reply, "items/6/index/result"), "updated");
  EXPECT_EQ(at(reply, "items/7/index/error/type"), "mapper_parsing_exception");
  EXPECT_NE(at(reply, "items/7/index/error/reason").find("@timestamp"), std::string::npos);
  EXPECT_EQ(at(ask("GET", "/a/_count"), "count"), "2");
}

TEST_F(EsFace, AMalformedBulkIsRefusedWholeAndNothingOfItIsStored) {
  for (auto bad : {"{\"index\":{}}\n{\"x\":1}", "nonsense\n{}\n", "{\"index\":{\"_index\":\"a\",\"colour\":1}}\n{}\n", "{\"swallow\":{}}\n{}\n", "{\"index\":{\"_index\":\"a\"}}\n", "\n\n", "[]\n", "{\"index\":[]}\n{}\n", "{}\n",
                   "{\"index\":{\"_index\":\"a\"}}\n{\"x\":1}\n{\"index\":{}}\n{}\n"}) {
    auto reply = ask("POST", "/_bulk", bad, 400);
    EXPECT_EQ(at(reply, "status"), "400") << bad;
    EXPECT_NE(at(reply, "error/root_cause/0/reason"), "(absent)") << bad;
  }
  EXPECT_EQ(at(ask("POST", "/_bulk", "{\"index\":{\"_index\":\"a\"}}\n{}", 400), "error/reason"), "The bulk request must be terminated by a newline [\\n]");
  EXPECT_TRUE(store_->indices().empty());
}

TEST_F(EsFace, JsonIsTakenUnderTheNamesThatClientsGiveIt) {
  for (auto type : {"text/plain", "multipart/form-data; boundary=x", "application/xml", "application/cbor"}) EXPECT_EQ(call("POST", "/_search", "{}", type).status, 406) << type;
  for (auto type : {"", "application/x-www-form-urlencoded"}) {
    EXPECT_EQ(call("POST", "/_bulk", "{\"index\":{\"_index\":\"old\"}}\n{\"a\":\"b=c&d%20\"}\n", type).status, 200) << type;
    EXPECT_EQ(call("POST", "/_count", R"({"query":{"match":{"a":"b"}}})", type).status, 200) << type;
    EXPECT_EQ(call("POST", "/_search", "a=b&c=d", type).status, 400) << type;
  }
  EXPECT_EQ(at(ask("GET", "/old/_count?q=a:%22b=c%26d%2520%22"), "count"), "2") << "the body is not read as a form";
  for (auto type : {"application/json", "application/json; charset=utf-8", "application/x-ndjson", "application/vnd.elasticsearch+json; compatible-with=8", "application/vnd.elasticsearch+x-ndjson;compatible-with=8"})
    EXPECT_EQ(call("POST", "/_search", "{}", type).status, 200) << type;
  EXPECT_EQ(call("GET", "/_search?source=%7B%22size%22:1%7D&source_content_type=application/json").status, 200);
}

TEST_F(EsFace, NamesPatternsAndWhatIsMissing) {
  fill();
  EXPECT_EQ(at(ask("GET", "/_count"), "count"), "12");
  EXPECT_EQ(at(ask("GET", "/logstash-*/_count"), "count"), "12");
  EXPECT_EQ(at(ask("GET", "/logstash-2024.05.01,logstash-2024.05.02/_count"), "count"), "12");
  EXPECT_EQ(at(ask("GET", "/logstash-*,-*.02/_count"), "count"), "6");
  EXPECT_EQ(at(ask("GET", "/_all/_count"), "count"), "12");
  EXPECT_EQ(at(ask("GET", "/nothing*/_search"), "hits/total/value"), "0");
  auto missing = ask("GET", "/nothing/_search", "", 404);
  EXPECT_EQ(at(missing, "error/type"), "index_not_found_exception");
  EXPECT_EQ(at(missing, "error/root_cause/0/index"), "nothing");
  EXPECT_EQ(at(missing, "error/resource.type"), "index_or_alias");
  ask("GET", "/nothing/_search?ignore_unavailable=true");
  ask("GET", "/nothing*/_search?allow_no_indices=false", "", 404);
  EXPECT_EQ(call("HEAD", "/logstash-2024.05.01").status, 200);
  EXPECT_EQ(call("HEAD", "/nothing").status, 404);
  auto unknown = ask("GET", "/_nonsense/x/y", "", 400);
  EXPECT_EQ(at(unknown, "error"), "no handler found for uri [/_nonsense/x/y] and method [GET]");
  auto wrong = call("DELETE", "/_bulk");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.get("Allow"), "POST, PUT");
}

TEST_F(EsFace, ASearchAnswersInItsShape) {
  fill();
  auto reply = ask("POST", "/logstash-*/_search", R"({"query":{"match":{"message":"number"}},"sort":[{"@timestamp":"desc"}],"from":1,"size":2,"_source":["n","deep.a"],"track_total_hits":true})");
  EXPECT_EQ(at(reply, "hits/total"), R"({"value":12,"relation":"eq"})");
  EXPECT_EQ(at(reply, "hits/max_score"), "null");
  EXPECT_EQ(at(reply, "hits/hits/0/_id"), "10");
  EXPECT_EQ(at(reply, "hits/hits/0/_source"), R"({"n":10,"deep":{"a":1}})");
  EXPECT_EQ(at(reply, "hits/hits/0/sort"), "[1714644010000]");
  EXPECT_EQ(at(reply, "hits/hits/1/_index"), "logstash-2024.05.02");
  EXPECT_EQ(at(reply, "_shards/failed"), "0");
  EXPECT_EQ(at(ask("GET", "/_search?q=n:3&_source=false&size=1"), "hits/hits/0/_source"), "(absent)");
  EXPECT_EQ(at(ask("GET", "/_search?q=n:3&_source_excludes=deep,host"), "hits/hits/0/_source"), R"({"@timestamp":"2024-05-01T10:00:03Z","message":"request number 3 was served","n":3})");
  EXPECT_EQ(at(ask("GET", "/_search?q=host:h0&sort=n:desc&size=1"), "hits/hits/0/_id"), "10");
  EXPECT_EQ(at(ask("POST", "/_search?rest_total_hits_as_int=true", R"({"size":0})"), "hits/total"), "12");
  EXPECT_EQ(at(ask("POST", "/_search", R"({"size":0,"track_total_hits":5})"), "hits/total"), R"({"value":5,"relation":"gte"})");
  EXPECT_EQ(at(ask("POST", "/_search", R"({"size":0,"track_total_hits":false})"), "hits/total"), "(absent)");
  auto fields = ask("POST", "/_search", R"({"query":{"term":{"n":3}},"_source":false,"fields":["n","host.keyword",{"field":"@timestamp","format":"epoch_millis"}],"docvalue_fields":["deep.*"]})");
  EXPECT_EQ(at(fields, "hits/hits/0/fields"), R"({"@timestamp":["1714557603000"],"deep.a":[1],"deep.b":[2],"host.keyword":["h1"],"n":[3]})");
  auto high = ask("POST", "/_search", R"({"query":{"bool":{"filter":[{"match":{"message":"number served"}},{"term":{"n":3}}]}},"highlight":{"pre_tags":["<b>"],"post_tags":["</b>"],"fields":{"*":{}}}})");
  EXPECT_EQ(at(high, "hits/hits/0/highlight/message/0"), "request <b>number</b> 3 was <b>served</b>");
  auto aggs = ask("POST", "/_search?typed_keys=true", R"({"size":0,"aggs":{"h":{"terms":{"field":"host.keyword"},"meta":{"k":1}}}})");
  EXPECT_EQ(at(aggs, "aggregations/sterms#h/buckets/0/doc_count"), "6");
  EXPECT_EQ(at(aggs, "aggregations/sterms#h/meta/k"), "1");
  auto post = ask("POST", "/_search", R"({"post_filter":{"term":{"host":"h0"}},"aggs":{"h":{"value_count":{"field":"n"}}}})");
  EXPECT_EQ(at(post, "hits/total/value"), "6");
  EXPECT_EQ(at(post, "aggregations/h/value"), "12");
}

TEST_F(EsFace, AWrongSearchSaysWhatIsWrongInElasticsearchsWay) {
  fill();
  auto syntax = ask("GET", "/_search?q=foo(", "", 400);
  EXPECT_EQ(at(syntax, "error/type"), "search_phase_execution_exception");
  EXPECT_EQ(at(syntax, "error/root_cause/0/type"), "query_shard_exception");
  EXPECT_EQ(at(syntax, "error/root_cause/0/reason"), "Failed to parse query [foo(]");
  EXPECT_EQ(at(syntax, "error/failed_shards/0/reason/type"), "query_shard_exception");
  auto dsl = ask("POST", "/_search", "{\n \"query\":{\"flavour\":{}}}", 400);
  EXPECT_EQ(at(dsl, "error/type"), "parsing_exception");
  EXPECT_EQ(at(dsl, "error/root_cause/0/line"), "2");
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {"/_search", R"({"query":)", "json_parse_exception"}, {"/_search", R"([])", "parsing_exception"}, {"/_search", R"({"colour":1})", "parsing_exception"}, {"/_search", R"({"size":-1})", "illegal_argument_exception"},
      {"/_search?size=x", "", "illegal_argument_exception"}, {"/_search", R"({"from":9999,"size":10})", "search_phase_execution_exception"}, {"/_search", R"({"aggs":{"a":{"what":{}}}})", "parsing_exception"},
      {"/_search", R"({"collapse":{"field":"n"}})", "parsing_exception"}, {"/_search", R"({"sort":[{"n":{"order":"up"}}]})", "parsing_exception"}, {"/_search", R"({"search_after":[1]})", "illegal_argument_exception"},
      {"/_search", R"({"timeout":"soon"})", "illegal_argument_exception"}, {"/_search", R"({"query":{"range":{"@timestamp":{"gte":"xx"}}}})", "search_phase_execution_exception"}, {"/_count", R"({"size":1})", "parsing_exception"},
      {"/_search?scroll=soon", "", "illegal_argument_exception"}, {"/_search/scroll", R"({"scroll_id":"x"})", "search_phase_execution_exception"}, {"/_msearch", "nonsense\n{}\n", "illegal_argument_exception"},
      {"/_search", R"({"size":0,"aggs":{"d":{"date_histogram":{"field":"@timestamp","fixed_interval":"100ms"}}}})", "too_many_buckets_exception"}};
  for (auto [target, body, type] : cases) {
    auto answer = call("POST", target, body);
    EXPECT_GE(answer.status, 400) << target << body;
    EXPECT_EQ(at(json::parse(answer.body).value_or(json::value()), "error/type"), type) << target << " " << body << ": " << answer.body.substr(0, 300);
  }
}

TEST_F(EsFace, ScrollsAndPointsInTimeGoOnOverWhatComesLater) {
  fill();
  auto first = ask("POST", "/logstash-*/_search?scroll=1m", R"({"size":5,"sort":"_doc"})");
  auto id = at(first, "_scroll_id");
  std::set<std::string> seen;
  auto note = [&](const json::value& page) {
    auto n = json::list(*json::find(page, "hits"), "hits").size();
    for (const auto& hit : json::list(*json::find(page, "hits"), "hits")) EXPECT_TRUE(seen.insert(json::text(hit, "_id")).second);
    return n;
  };
  EXPECT_EQ(note(first), 5u);
  ask("PUT", "/logstash-2024.05.02/_doc/late", R"({"n":99})", 201);
  EXPECT_EQ(note(ask("POST", "/_search/scroll", fmt::format(R"({{"scroll":"1m","scroll_id":"{}"}})", id))), 5u);
  auto last = ask("GET", "/_search/scroll?scroll=1m&scroll_id=" + id);
  EXPECT_EQ(at(last, "hits/total/value"), "12");
  EXPECT_EQ(note(last), 2u);
  EXPECT_EQ(note(ask("POST", "/_search/scroll", fmt::format(R"({{"scroll_id":"{}"}})", id))), 0u);
  EXPECT_EQ(at(ask("DELETE", "/_search/scroll", fmt::format(R"({{"scroll_id":["{}"]}})", id)), "num_freed"), "1");
  ask("POST", "/_search/scroll", fmt::format(R"({{"scroll_id":"{}"}})", id), 404);
  EXPECT_EQ(seen.size(), 12u);
  auto pit = at(ask("POST", "/logstash-*/_pit?keep_alive=1m"), "id");
  ask("PUT", "/logstash-2024.05.02/_doc/later", R"({"n":100})", 201);
  auto page = ask("POST", "/_search", fmt::format(R"({{"size":10,"pit":{{"id":"{}","keep_alive":"1m"}},"sort":[{{"host":"asc"}}]}})", pit));
  auto after = at(page, "hits/hits/9/sort");
  auto rest = ask("POST", "/_search", fmt::format(R"({{"size":10,"pit":{{"id":"{}"}},"sort":[{{"host":"asc"}}],"search_after":{}}})", pit, after));
  EXPECT_EQ(json::list(*json::find(rest, "hits"), "hits").size(), 3u);
  EXPECT_EQ(at(ask("DELETE", "/_pit", fmt::format(R"({{"id":"{}"}})", pit)), "num_freed"), "1");
  ask("DELETE", "/_pit", fmt::format(R"({{"id":"{}"}})", pit), 404);
}

TEST_F(EsFace, SeveralSearchesAnswerEachForItself) {
  fill();
  auto reply = ask("POST", "/_msearch", "{\"index\":\"logstash-*\"}\n{\"size\":1}\n{}\n{\"query\":{\"term\":{\"n\":3}}}\n\n{\"size\":0}\n{\"index\":\"nothing\"}\n{}\n{\"index\":[\"nothing\"],\"ignore_unavailable\":true}\n{\"query\":{\"bad\":{}}}\n");
  EXPECT_EQ(at(reply, "responses/0/status"), "200");
  EXPECT_EQ(at(reply, "responses/1/hits/total/value"), "1");
  EXPECT_EQ(at(reply, "responses/2/hits/total/value"), "12");
  EXPECT_EQ(at(reply, "responses/3/status"), "404");
  EXPECT_EQ(at(reply, "responses/3/error/type"), "index_not_found_exception");
  EXPECT_EQ(at(reply, "responses/4/status"), "400");
}

TEST_F(EsFace, SingleDocumentsComeAndGo) {
  auto made = call("POST", "/logs/_doc", "{\n  \"a\": \"x  y\"\n}");
  EXPECT_EQ(made.status, 201);
  auto id = at(*json::parse(made.body), "_id");
  auto got = ask("GET", "/logs/_doc/" + id);
  EXPECT_EQ(at(got, "found"), "true");
  EXPECT_EQ(at(got, "_source/a"), "x  y");
  EXPECT_EQ(at(ask("GET", "/logs/_source/" + id), "a"), "x  y");
  EXPECT_EQ(call("HEAD", "/logs/_doc/" + id).status, 200);
  EXPECT_EQ(at(ask("GET", "/logs/_doc/none", "", 404), "found"), "false");
  ask("PUT", "/logs/_create/1", R"({"v":1})", 201);
  EXPECT_EQ(at(ask("PUT", "/logs/_create/1", R"({"v":2})", 409), "error/type"), "version_conflict_engine_exception");
  EXPECT_EQ(at(ask("PUT", "/logs/_doc/1", R"({"v":2})"), "result"), "updated");
  EXPECT_EQ(at(ask("PUT", "/logs/_doc/1?op_type=create", R"({"v":3})", 409), "status"), "409");
  auto several = ask("POST", "/_mget", R"({"docs":[{"_index":"logs","_id":"1"},{"_index":"logs","_id":"2"},{"_index":"gone","_id":"1"}]})");
  EXPECT_EQ(at(several, "docs/0/_source/v"), "2");
  EXPECT_EQ(at(several, "docs/1/found"), "false");
  EXPECT_EQ(at(several, "docs/2/error/type"), "index_not_found_exception");
  EXPECT_EQ(at(ask("POST", "/logs/_mget", R"({"ids":["1"]})"), "docs/0/found"), "true");
  ask("PUT", "/logs/_doc/2", "[1]", 400);
  ask("PUT", "/Logs/_doc/2", "{}", 400);
  ask("DELETE", "/logs/_doc/1", "", 400);
}

TEST_F(EsFace, AnIdThatIsNoTextIsRefusedAndSaysSo) {
  for (auto path : {"/logs/_doc/%FF", "/logs/_create/a%C3", "/logs/_doc/%ED%A0%80?op_type=create"}) {
    auto reply = ask("PUT", path, "{}", 400);
    EXPECT_EQ(at(reply, "error/type"), "illegal_argument_exception") << path;
    EXPECT_NE(at(reply, "error/reason").find("is not valid UTF-8"), std::string::npos) << path;
    EXPECT_EQ(at(reply, "status"), "400");
  }
  EXPECT_EQ(at(ask("PUT", "/logs/_doc/%FF", "{}", 400), "error/root_cause/0/reason"), "id [%FF] is not valid UTF-8");
  EXPECT_EQ(at(ask("PUT", "/l%FFgs/_doc/1", "{}", 400), "error/type"), "invalid_index_name_exception");
  EXPECT_TRUE(store_->indices().empty());
  EXPECT_EQ(at(ask("PUT", "/logs/_doc/%C3%A4", "{}", 201), "_id"), "\xc3\xa4");
}

TEST_F(EsFace, MoreSearchesThanMayWaitAreRefusedAndTheOthersAnswered) {
  fill();
  net::Router router;
  EsOptions options{"bench", "7.17.28"};
  options.reads_at_once = 2;
  options.reads_waiting = 3;
  add_es_routes(router, *store_, pool_, options);
  std::map<int, int> answers;
  net::Response refusal;
  auto ask_all = [&](int n) {
    answers.clear();
    for (int i = 0; i < n; ++i) {
      net::Request r;
      r.method = "GET";
      r.target = r.path = i % 3 == 0 ? "/_search" : i % 3 == 1 ? "/logstash-2024.05.01/_doc/1" : "/_count";
      // Nothing runs before all of them stand there, so none of the first ends before the last comes.
      asio::co_spawn(io_, router.handle(std::move(r)), [&](std::exception_ptr, net::Response got) {
        ++answers[got.status];
        if (got.status == 429) refusal = std::move(got);
      });
    }
    auto all = [&] {
      int sum = 0;
      for (auto [status, count] : answers) sum += count;
      return sum;
    };
    while (all() < n) io_.run_one_for(std::chrono::milliseconds(50)), io_.restart();
  };
  ask_all(9);
  EXPECT_EQ(answers[429], 4) << "two at work, three wait";
  EXPECT_EQ(answers[200], 5);
  EXPECT_EQ(refusal.headers.get("Retry-After"), "1");
  EXPECT_EQ(at(*json::parse(refusal.body), "error/type"), "es_rejected_execution_exception");
  EXPECT_EQ(at(*json::parse(refusal.body), "status"), "429");
  ask_all(5);
  EXPECT_EQ(answers[429], 0) << "their places are free again";
}

TEST_F(EsFace, AClientThatHasGoneIsNotWorkedFor) {
  fill();
  std::string many;
  for (int i = 0; i < 15'000; ++i) many += fmt::format("{{\"index\":{{\"_index\":\"logstash-2024.05.03\"}}}}\n{{\"@timestamp\":\"2024-05-03T10:00:00Z\",\"message\":\"number {}\"}}\n", i);
  EXPECT_EQ(at(ask("POST", "/_bulk", many), "errors"), "false");
  net::Request r;
  r.method = "POST";
  r.target = r.path = "/_msearch";
  r.headers.set("Content-Type", "application/x-ndjson");
  for (int i = 0; i < 100; ++i) r.body += "{}\n{\"query\":{\"regexp\":{\"message\":\".*[0-9]x.*\"}}}\n";
  bool asked = false;
  r.gone = [&] { return asked = true; };
  auto answer = asio::co_spawn(io_, router_.handle(std::move(r)), asio::use_future);
  while (answer.wait_for(std::chrono::seconds(0)) != std::future_status::ready) io_.run_one_for(std::chrono::milliseconds(50)), io_.restart();
  EXPECT_TRUE(asked);
  EXPECT_EQ(answer.get().status, 429) << "it was given up in the middle";
}

TEST_F(EsFace, ADocumentBeyondTheBoundIsRefusedAndItsNeighboursAreKept) {
  auto action = std::string("{\"index\":{\"_index\":\"logstash-2024.05.01\"}}\n");
  auto reply = ask("POST", "/_bulk", action + "{\"n\":1}\n" + action + "{\"message\":\"" + std::string(11u << 20, 'x') + "\"}\n" + action + "{\"n\":2}\n");
  EXPECT_EQ(at(reply, "items/0/index/status"), "201");
  EXPECT_EQ(at(reply, "items/1/index/status"), "400");
  EXPECT_NE(at(reply, "items/1/index/error/reason").find("more than 10485760"), std::string::npos);
  EXPECT_EQ(at(reply, "items/2/index/status"), "201");
}

TEST_F(EsFace, IndicesTheirMappingsAndAliases) {
  auto made = ask("PUT", "/events-000001", R"({"settings":{"number_of_shards":3},"mappings":{"properties":{"declared":{"type":"keyword"}}},"aliases":{"events":{"is_write_index":true}}})");
  EXPECT_EQ(at(made, "shards_acknowledged"), "true");
  EXPECT_EQ(at(ask("PUT", "/events-000001", "", 400), "error/type"), "resource_already_exists_exception");
  EXPECT_EQ(at(ask("PUT", "/UPPER", "", 400), "error/type"), "invalid_index_name_exception");
  ask("POST", "/events/_doc", R"({"text":"hello","n":1,"f":1.5,"b":true,"when":"2024-05-02","deep":{"x":1}})", 201);
  EXPECT_EQ(at(ask("GET", "/events/_count"), "count"), "1");
  auto mapping = ask("GET", "/events/_mapping");
  EXPECT_EQ(at(mapping, "events-000001/mappings/properties/declared/type"), "keyword");
  EXPECT_EQ(at(mapping, "events-000001/mappings/properties/text/fields/keyword/type"), "keyword");
  EXPECT_EQ(at(mapping, "events-000001/mappings/properties/n/type"), "long");
  EXPECT_EQ(at(mapping, "events-000001/mappings/properties/f/type"), "float");
  EXPECT_EQ(at(mapping, "events-000001/mappings/properties/b/type"), "boolean");
  EXPECT_EQ(at(mapping, "events-000001/mappings/properties/when/type"), "date");
  EXPECT_EQ(at(mapping, "events-000001/mappings/properties/@timestamp/type"), "date");
  EXPECT_EQ(at(mapping, "events-000001/mappings/properties/deep/properties/x/type"), "long");
  auto caps = ask("GET", "/events/_field_caps?fields=*");
  EXPECT_EQ(at(caps, "fields/text.keyword/keyword/aggregatable"), "true");
  EXPECT_EQ(at(caps, "fields/text/text/aggregatable"), "false");
  auto index = ask("GET", "/events-000001");
  EXPECT_EQ(at(index, "events-000001/aliases/events/is_write_index"), "true");
  EXPECT_EQ(at(index, "events-000001/settings/index/provided_name"), "events-000001");
  EXPECT_EQ(at(ask("GET", "/_alias/events"), "events-000001/aliases/events/is_write_index"), "true");
  ask("GET", "/_alias/nothing", "", 404);
  EXPECT_EQ(call("HEAD", "/_alias/events").status, 200);
  ask("POST", "/_aliases", R"({"actions":[{"add":{"index":"events-000001","alias":"second"}},{"remove":{"index":"events-000001","alias":"events"}}]})");
  ask("GET", "/events/_count", "", 404);
  EXPECT_EQ(at(ask("GET", "/second/_count"), "count"), "1");
  ask("DELETE", "/events*", "", 400);
  ask("DELETE", "/_all", "", 400);
  ask("DELETE", "/nothing", "", 404);
  EXPECT_EQ(at(ask("DELETE", "/events-000001"), "acknowledged"), "true");
  ask("GET", "/second/_count", "", 404);
  ask("PUT", "/%3Cdated-%7Bnow%2Fd%7D-000001%3E");
  EXPECT_EQ(store_->indices().at(0).name, fmt::format("dated-{}-000001", print_date(system_now().wall, "yyyy.MM.dd")));
}

TEST_F(EsFace, TemplatesAndPoliciesAreKeptForThoseWhoAsk) {
  EXPECT_EQ(call("HEAD", "/_template/logstash").status, 404);
  ask("PUT", "/_template/logstash", R"({"index_patterns":"logstash-*","settings":{"index.refresh_interval":"5s"}})");
  EXPECT_EQ(call("HEAD", "/_template/logstash").status, 200);
  EXPECT_EQ(at(ask("GET", "/_template/logstash"), "logstash/index_patterns/0"), "logstash-*");
  ask("PUT", "/_template/bad", R"({})", 400);
  ask("PUT", "/_index_template/t", R"({"index_patterns":["a-*"],"template":{}})");
  EXPECT_EQ(at(ask("GET", "/_index_template/t"), "index_templates/0/name"), "t");
  ask("GET", "/_index_template/none", "", 404);
  ask("GET", "/_ilm/policy/logstash-policy", "", 404);
  ask("PUT", "/_ilm/policy/logstash-policy", R"({"policy":{"phases":{}}})");
  EXPECT_NE(at(ask("GET", "/_ilm/policy/logstash-policy"), "logstash-policy/policy"), "(absent)");
  ask("PUT", "/_ingest/pipeline/p", R"({"processors":[{"set":{}}]})", 400);
  ask("DELETE", "/_template/logstash");
  ask("DELETE", "/_template/logstash", "", 404);
}

TEST_F(EsFace, TablesComeAsTextAndAsJson) {
  fill();
  auto text = call("GET", "/_cat/indices?v&s=index:desc&h=index,docs.count").body;
  EXPECT_EQ(text, "index               docs.count\nlogstash-2024.05.02 6\nlogstash-2024.05.01 6\n");
  auto table = ask("GET", "/_cat/indices/logstash-*?format=json&bytes=b");
  EXPECT_EQ(at(table, "0/docs.count"), "6");
  EXPECT_EQ(at(table, "0/health"), "green");
  EXPECT_TRUE(to_int(at(table, "0/store.size")));
  EXPECT_EQ(at(*json::parse(call("GET", "/_cat/count", "", "", "application/json").body), "0/count"), "12");
  EXPECT_NE(call("GET", "/_cat/health").body.find("green"), std::string::npos);
  EXPECT_EQ(call("GET", "/_cat/indices?s=colour").status, 400);
  EXPECT_EQ(call("GET", "/_cat/indices/nothing").status, 404);
}

TEST_F(EsFace, AnswersCanBeFilteredAndIndented) {
  fill();
  EXPECT_EQ(call("GET", "/_search?filter_path=hits.total.value,took.x&q=n:1").body, R"({"hits":{"total":{"value":1}}})");
  EXPECT_EQ(call("GET", "/_search?filter_path=**._id&q=n:1").body, R"({"hits":{"hits":[{"_id":"1"}]}})");
  auto without = *json::parse(call("GET", "/_search?filter_path=-hits.hits,-_shards&q=n:1").body);
  EXPECT_EQ(at(without, "hits/hits"), "(absent)");
  EXPECT_EQ(at(without, "hits/total/value"), "1");
  EXPECT_EQ(call("POST", "/_bulk?filter_path=errors,items.*.error", "{\"index\":{\"_index\":\"a\"}}\n{}\n").body, R"({"errors":false})");
  EXPECT_EQ(call("GET", "/_count?pretty&filter_path=count").body, "{\n  \"count\" : 13\n}\n");
}

/// Requests of a croft host, as the gate lets them through.
class FromHosts : public EsFace {
 protected:
  net::Response send(secure::HostRole role, std::string target, std::string body, std::string login = "") {
    auto certificate = std::make_shared<secure::Certificate>();
    certificate->identity = {"c", "m1", {role}};
    secure::Principal who = secure::principal_of(certificate->identity);
    if (!login.empty()) who = {secure::Principal::Kind::user, login, {}, {}, {}};
    change_ = [certificate, who](net::Request& r) {
      r.certificate = certificate;
      r.caller = std::make_shared<const secure::Caller>(who, "10.0.0.1");
    };
    auto answer = call("POST", std::move(target), std::move(body));
    change_ = {};
    return answer;
  }
  std::string source_of(const std::string& id) { return at(ask("GET", "/l/_doc/" + id), "_source"); }
  static std::string bulk(std::string_view id, std::string_view source) { return fmt::format("{{\"index\":{{\"_index\":\"l\",\"_id\":\"{}\"}}}}\n{}\n", id, source); }
  static constexpr const char* time = R"("@timestamp":"2024-05-02T10:00:00Z")";
};

TEST_F(FromHosts, AHostSpeaksForItselfAndOnlyOneThatRunsTasksSaysWhoseTheyAre) {
  using secure::HostRole;
  auto own = fmt::format(R"({{{},"app":"/a","task":"t","host":"m1","x":1}})", time), others = fmt::format(R"({{{},"app":"/other","task":"t","host":"m2","app.id":"y"}})", time);
  EXPECT_EQ(send(HostRole::node, "/_bulk", bulk("n1", own) + bulk("n2", others)).status, 200);
  EXPECT_EQ(source_of("n1"), own) << "what shippers send stays as it is";
  EXPECT_EQ(source_of("n2"), fmt::format(R"({{{},"app":"/other","task":"t","app.id":"y","host":"m1","original":{{"host":"m2"}}}})", time));
  for (auto role : {HostRole::dns, HostRole::balancer, HostRole::master, HostRole::log}) {
    EXPECT_EQ(send(role, "/_bulk", bulk("d", others)).status, 200);
    EXPECT_EQ(source_of("d"), fmt::format(R"({{{},"host":"m1","original":{{"app":"/other","app.id":"y","host":"m2","task":"t"}}}})", time));
  }
  EXPECT_EQ(send(HostRole::dns, "/l/_doc/e", others).status, 201);
  EXPECT_EQ(at(ask("GET", "/l/_count?q=app:*%20AND%20_id:e"), "count"), "0");
  EXPECT_EQ(send(HostRole::dns, "/l/_create/f", R"({"app":"/other","original":{"app":"z","k":1}})").status, 201);
  EXPECT_EQ(at(ask("GET", "/l/_doc/f"), "_source/original"), R"({"app":"/other","k":1})");
  EXPECT_EQ(at(ask("GET", "/l/_doc/f"), "_source/host"), "m1");
  EXPECT_EQ(send(HostRole::dns, "/_bulk", bulk("g", others), "ann").status, 200);
  EXPECT_EQ(source_of("g"), others) << "a login says what it likes";
}

TEST_F(FromHosts, NamesThatStandTwiceOrAreNoTextSayNothing) {
  using secure::HostRole;
  EXPECT_EQ(send(HostRole::node, "/_bulk", bulk("a", R"({"host":"m1","host":"m2"})") + bulk("b", R"({"host":["m2"]})") + bulk("c", R"({"h\u006fst":"m2"})") + bulk("d", "{}")).status, 200);
  for (auto id : {"a", "b", "c", "d"}) EXPECT_EQ(at(ask("GET", fmt::format("/l/_doc/{}", id)), "_source/host"), "m1") << id;
  EXPECT_EQ(at(ask("GET", "/l/_count?q=host:m2"), "count"), "0");
  std::string deep = R"({"host":)" + std::string(62, '[') + std::string(62, ']') + "}";
  EXPECT_EQ(at(*json::parse(send(HostRole::node, "/_bulk", bulk("e", deep)).body), "items/0/index/status"), "201");
  deep = R"({"host":)" + std::string(63, '[') + std::string(63, ']') + "}";
  EXPECT_EQ(at(*json::parse(send(HostRole::node, "/_bulk", bulk("e", deep)).body), "items/0/index/error/type"), "mapper_parsing_exception") << "under original it would be too deep to be read";
}

TEST_F(FromHosts, WhoShipsNothingMovesNoShippersPlace) {
  auto refused = *json::parse(send(secure::HostRole::dns, "/_bulk", bulk("c1:t/stdout:999999", "{}")).body);
  EXPECT_EQ(at(refused, "items/0/index/status"), "403");
  EXPECT_EQ(at(refused, "items/0/index/error/type"), "security_exception");
  EXPECT_EQ(send(secure::HostRole::dns, "/l/_doc/c1:t:999999", "{}").status, 403);
  EXPECT_EQ(at(*json::parse(send(secure::HostRole::node, "/_bulk", bulk("c1:t/stdout:10", "{}")).body), "items/0/index/status"), "201");
}

TEST_F(EsFace, ScrollsAndPointsInTimeAreTheirsWhoOpenedThem) {
  fill();
  auto as = [this](std::string name) {
    change_ = [name](net::Request& r) {
      secure::Principal who{secure::Principal::Kind::user, name, {}, {}, {}};
      who.grants = {*secure::parse_grant("viewer:/")};
      r.caller = std::make_shared<const secure::Caller>(who, "10.0.0.1");
    };
  };
  as("ann");
  auto id = at(ask("POST", "/_search?scroll=1m", R"({"size":5})"), "_scroll_id"), point = at(ask("POST", "/logstash-*/_pit?keep_alive=1m"), "id");
  auto page = fmt::format(R"({{"scroll_id":"{}","scroll":"1m"}})", id), in_point = fmt::format(R"({{"size":1,"pit":{{"id":"{}"}}}})", point);
  as("vic");
  auto refused = ask("POST", "/_search/scroll", page, 404);
  EXPECT_EQ(at(refused, "error/root_cause/0/reason"), fmt::format("No search context found for id [{}]", id));
  EXPECT_EQ(json::print(*json::find(refused, "error")).size(), json::print(*json::find(ask("POST", "/_search/scroll", fmt::format(R"({{"scroll_id":"{}"}})", std::string(id.size(), '0')), 404), "error")).size()) << "as if there were none";
  EXPECT_EQ(at(ask("DELETE", "/_search/scroll", page, 404), "num_freed"), "0");
  ask("POST", "/_search", in_point, 404);
  EXPECT_EQ(at(ask("DELETE", "/_pit", fmt::format(R"({{"id":"{}"}})", point), 404), "num_freed"), "0");
  as("ann");
  EXPECT_EQ(json::list(*json::find(ask("POST", "/_search/scroll", page), "hits"), "hits").size(), 5u);
  ask("POST", "/_search", in_point);
  EXPECT_EQ(at(ask("DELETE", "/_search/scroll", page), "num_freed"), "1");
}

class SmallAnswers : public EsFace {
 protected:
  SmallAnswers() : EsFace({.answer_bytes_max = 1u << 20}) {
    std::string body;
    for (int i = 0; i < 24; ++i)
      body += fmt::format("{{\"index\":{{\"_index\":\"logstash-2024.05.02\",\"_id\":\"{0}\"}}}}\n{{\"@timestamp\":\"2024-05-02T10:00:{0:02}Z\",\"n\":{0},\"message\":\"{1}\"}}\n", i, std::string(100'000, static_cast<char>('a' + i)));
    EXPECT_EQ(at(ask("POST", "/_bulk", body), "errors"), "false");
  }
  static constexpr const char* kind = "error/root_cause/0/type";
};

TEST_F(SmallAnswers, S17_ASearchHoldsNoMoreThanItMayAnswer) {
  EXPECT_EQ(at(ask("POST", "/_search", R"({"size":5})"), "hits/hits/4/_source/n"), "19");
  auto refused = ask("POST", "/_search", R"({"size":20})", 413);
  EXPECT_EQ(at(refused, kind), "circuit_breaking_exception");
  EXPECT_NE(at(refused, "error/reason").find("_source"), std::string::npos);
  EXPECT_EQ(at(ask("POST", "/_search", R"({"size":20,"_source":["n"]})"), "hits/hits/19/_source"), "{\"n\":4}") << "parts of them fit";
  EXPECT_EQ(at(ask("POST", "/_search", R"({"size":20,"_source":false})"), "hits/hits/19/_id"), "4");
  EXPECT_EQ(at(ask("POST", "/_search", R"({"size":20,"_source":false,"sort":["message"]})", 413), kind), "circuit_breaking_exception") << "what it is sorted by is held, too";
  EXPECT_EQ(at(ask("POST", "/_search", R"({"size":5,"fields":["message","message.keyword","mess*","message.keyword","message.keyword","message.keyword"],"_source":false})", 413), kind), "circuit_breaking_exception");
  auto tags = fmt::format(R"({{"size":5,"_source":["n"],"highlight":{{"pre_tags":["{}"],"fields":{{"*":{{"number_of_fragments":0}}}},"highlight_query":{{"wildcard":{{"message":"*"}}}}}}}})", std::string(600'000, 't'));
  EXPECT_EQ(at(ask("POST", "/_search", tags, 413), kind), "circuit_breaking_exception");
  EXPECT_EQ(at(ask("GET", "/_count"), "count"), "24");
}

TEST_F(SmallAnswers, S17_AggregationsHoldNoMoreThanTheyMayAnswer) {
  EXPECT_EQ(at(ask("POST", "/_search", R"({"size":0,"aggs":{"a":{"terms":{"field":"message.keyword","size":3}}}})", 413), kind), "circuit_breaking_exception");
  EXPECT_EQ(at(ask("POST", "/_search", R"({"size":0,"aggs":{"a":{"terms":{"field":"n","size":100},"aggs":{"b":{"top_hits":{"size":1}}}}}})", 413), kind), "circuit_breaking_exception");
  EXPECT_EQ(at(ask("POST", "/_search", R"({"size":0,"aggs":{"b":{"top_hits":{"size":3,"sort":[{"n":"desc"}]}}}})"), "aggregations/b/hits/hits/0/_source/n"), "23") << "what it let go of is given back";
}

TEST_F(SmallAnswers, S17_SeveralSearchesTogetherHoldNoMoreThanOne) {
  std::string pairs;
  for (int i = 0; i < 4; ++i) pairs += "{}\n{\"size\":4}\n";
  pairs += "{}\n{\"size\":0}\n";
  auto answer = ask("POST", "/_msearch", pairs);
  EXPECT_EQ(at(answer, "responses/0/hits/hits/3/_source/n"), "20");
  EXPECT_EQ(at(answer, "responses/1/status"), "200");
  EXPECT_EQ(at(answer, "responses/2/status"), "413");
  EXPECT_EQ(at(answer, "responses/2/error/type"), "circuit_breaking_exception");
  EXPECT_EQ(at(answer, "responses/3/status"), "413");
  EXPECT_EQ(at(answer, "responses/4/hits/total/value"), "24") << "what needs no room is answered";
}

TEST_F(SmallAnswers, S17_PagesAndSingleDocumentsAreBounded) {
  EXPECT_EQ(ask("POST", "/_search?scroll=1m", R"({"size":20})", 413).is_object(), true);
  auto first = ask("POST", "/_search?scroll=1m", R"({"size":5})");
  EXPECT_EQ(at(ask("POST", "/_search/scroll", fmt::format(R"({{"scroll_id":"{}"}})", at(first, "_scroll_id"))), "hits/hits/0/_source/n"), "5");
  std::string ids;
  for (int i = 0; i < 14; ++i) ids += fmt::format("{}\"{}\"", i ? "," : "", i);
  auto several = ask("POST", "/logstash-2024.05.02/_mget", "{\"ids\":[" + ids + "]}");
  EXPECT_EQ(at(several, "docs/9/_source/n"), "9");
  EXPECT_EQ(at(several, "docs/12/error/type"), "circuit_breaking_exception");
  EXPECT_EQ(at(ask("POST", "/logstash-2024.05.02/_mget?_source=n", "{\"ids\":[" + ids + "]}"), "docs/13/_source/n"), "13");
}

}  // namespace
}  // namespace croft::logs
