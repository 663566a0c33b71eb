#include "console/page.hpp"

#include "base/json_writer.hpp"
#include "base/text.hpp"

namespace croft::console {

namespace asio = boost::asio;
using net::Request;
using net::Response;

namespace {

constexpr const char* page = R"html(<!doctype html><html lang="en"><head><meta charset="utf-8"><title>croft</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="stylesheet" href="/croft.css"></head><body>
<header><h1>croft</h1><p id="farm" role="status">reading the farm</p></header>
<p id="open" class="bad" role="alert" hidden>auth is "none": everybody who reaches this page can change everything, and that is root on the hosts.</p>
<main><section><h2>Apps</h2><div id="apps"></div></section><section><h2>Hosts</h2><div id="hosts"></div></section>
<section><h2>Balancer rules</h2><div id="rules"></div></section>
<section><h2>Logs</h2><form id="search"><label>Search <input name="q" placeholder='took_ms:[10 TO *] AND app:"/service/fibonacci"' size="60"></label> <button>Search</button></form><div id="logs"></div></section></main>
<script src="/croft.js"></script></body></html>)html";

constexpr const char* style = R"css(:root{color-scheme:light dark;font:15px/1.45 system-ui,sans-serif}body{margin:0 auto;max-width:80rem;padding:1rem}
header{display:flex;gap:1.5rem;align-items:baseline;flex-wrap:wrap}h1{margin:0}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}code{font-size:.9em}.bad{color:#c33;font-weight:600}.good{color:#2a7}
#logs{overflow-x:auto}.stale{opacity:.55}input{font:inherit;max-width:100%})css";

constexpr const char* script = R"js('use strict';
const el=(n,t,c)=>{const e=document.createElement(n);if(t!==undefined)e.textContent=t;if(c)e.className=c;return e};
function table(head,rows){const t=el('table'),h=el('tr');head.forEach(x=>h.append(el('th',x)));t.append(h);
 rows.forEach(r=>{const tr=el('tr');r.forEach(c=>{const td=el('td');if(c instanceof Node)td.append(c);else td.textContent=c;tr.append(td)});t.append(tr)});return t}
function show(id,node,empty){const d=document.getElementById(id);d.replaceChildren(node||el('p',empty))}
const health=t=>{const r=(t.healthCheckResults||[])[0];return r===undefined?el('span','no verdict'):r.alive?el('span','healthy','good'):el('span','unhealthy','bad')};
async function refresh(){try{const r=await fetch(location.origin+'/croft/v1/overview');if(!r.ok)throw new Error(r.status);const f=await r.json();
 document.body.classList.remove('stale');document.getElementById('open').hidden=r.headers.get('X-Croft-Auth')!=='none';document.getElementById('farm').textContent=`leader ${f.leader}, ${f.hosts.length} hosts, ${f.apps.length} apps, ${f.deployments.length} deployments under way`;
 const rows=[];f.apps.forEach(a=>{rows.push([el('strong',a.id),`${a.running} of ${a.instances}${a.waiting?`, ${a.waiting} waiting`:''}${a.deploying?', deploying':''}`,'','','']);
  a.tasks.forEach(t=>rows.push(['',el('code',t.id),`${t.host}:${t.ports.join(',')}`,t.state.replace('TASK_','').toLowerCase()+(t.draining?', draining':''),health(t)]))});
 show('apps',rows.length?table(['App','Instances','Where','State','Health'],rows):null,'No apps yet.');
 show('hosts',table(['Host','Address','State','Cpus','Mem','Tasks'],f.hosts.map(h=>[h.hostname,`${h.ip}:${h.port}`,h.draining?el('span','draining','bad'):h.reachable?el('span','reachable','good'):el('span','unreachable','bad'),
  `${h.used.cpus} of ${h.resources.cpus}`,`${h.used.mem} of ${h.resources.mem} MiB`,h.tasks])));
 show('rules',f.rules.length?table(['App','ACL'],f.rules.map(r=>[r.app,el('code',r.acl)])):null,'No rules.')}
 catch(e){document.body.classList.add('stale');document.getElementById('farm').textContent='no leader answers ('+e.message+'); shown is what was last known'}}
async function search(ev){if(ev)ev.preventDefault();const q=new FormData(document.getElementById('search')).get('q');
 try{const r=await fetch(location.origin+'/croft/v1/logs?q='+encodeURIComponent(q||''));const b=await r.json();if(!r.ok)throw new Error(b.error?b.error.reason:r.status);
 show('logs',b.hits.hits.length?table(['Time','App','Host','Message'],b.hits.hits.map(h=>{const s=h._source;return[s['@timestamp'],s.app||'',s.host||'',s.message||'']})):null,'Nothing found.')}
 catch(e){show('logs',el('p',e.message,'bad'))}}
document.getElementById('search').addEventListener('submit',search);refresh();search();setInterval(refresh,2000);)js";

Response asset(const char* text, std::string_view type) {
  Response r;
  r.body = text;
  r.headers.set("Content-Type", type);
  r.headers.set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'");
  r.headers.set("X-Content-Type-Options", "nosniff");
  r.headers.set("X-Frame-Options", "DENY");
  r.headers.set("Referrer-Policy", "no-referrer");
  r.headers.set("Cache-Control", "no-cache");
  return r;
}

Request asking(const Request& from, std::string target) {
  Request to;
  to.method = "GET";
  to.target = std::move(target);
  net::pass_credentials(from, to);
  return to;
}

asio::awaitable<Response> overview(std::shared_ptr<net::HttpClient> client, std::vector<net::Origin> masters, Request r) {
  for (const auto& master : masters) {
    auto request = asking(r, "/croft/v1/overview");
    auto answer = co_await client->request(master, std::move(request));
    if (!answer || (answer->status != 200 && answer->status != 401 && answer->status != 403)) continue;
    auto response = Response::json(std::move(answer->body), answer->status);
    if (auto open = answer->headers.get("X-Croft-Auth"); !open.empty()) response.headers.set("X-Croft-Auth", open);
    co_return response;
  }
  co_return Response::message(503, "no master answers");
}

asio::awaitable<Response> find_logs(std::shared_ptr<net::HttpClient> client, net::Origin logs, Request r) {
  auto q = r.query.get("q").value_or("");
  auto target = "/logstash-*/_search?size=50&sort=@timestamp:desc" + (trim(q).empty() ? std::string() : "&q=" + url_encode(q));
  auto request = asking(r, std::move(target));
  auto answer = co_await client->request(logs, std::move(request));
  if (!answer) co_return Response::message(503, answer.error().context);
  co_return Response::json(std::move(answer->body), answer->status);
}

}  // namespace

void add_page(net::Router& router, asio::any_io_executor executor, std::vector<net::Origin> masters, net::Origin logs, bool is_master) {
  auto client = std::make_shared<net::HttpClient>(executor);
  auto serve = [&](std::string_view path, const char* text, std::string_view type) {
    std::string kind(type);
    router.on("GET", path, [text, kind](Request) -> asio::awaitable<Response> { co_return asset(text, kind); });
  };
  serve("/", page, "text/html; charset=utf-8");
  serve("/croft.css", style, "text/css; charset=utf-8");
  serve("/croft.js", script, "text/javascript; charset=utf-8");
  if (!is_master) router.on("GET", "/croft/v1/overview", [client, masters](Request r) { return overview(client, masters, std::move(r)); });
  router.on("GET", "/croft/v1/logs", [client, logs](Request r) { return find_logs(client, logs, std::move(r)); });
}

}  // namespace croft::console
