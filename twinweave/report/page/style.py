"""How pages look: one accent, two schemes, screen and paper. Colours hold 4.5 to 1 as text."""

from markupsafe import Markup

STYLE = Markup("""
:root{--paper:#fff;--soft:#f5f6f6;--ink:#171b20;--dim:#59636e;--rule:#dfe3e6;--grid:#e9ecee;
--accent:#0b6b7f;--deep:#084f5e;--wash:#b5d7de;--warn:#8a5300;--warnbg:#fdf4e3;--bad:#a8261f;
--badbg:#fcebe9;--h0:#eef2f3;--h1:#d3e4e8;--h2:#a5cad3;--h3:#e9c48a;--h4:#d98c4a;--h5:#b3402f}
@media screen and (prefers-color-scheme:dark){
:root{--paper:#14171a;--soft:#1c2024;--ink:#e8ebed;--dim:#9da8b2;
--rule:#31373d;--grid:#272c31;--accent:#5fc0d3;--deep:#9adbe8;--wash:#1f4f5a;--warn:#e8b767;
--warnbg:#2b2313;--bad:#f2887f;--badbg:#331b19;--h0:#22282c;--h1:#24424a;--h2:#2e6370;--h3:#7d5f2c;
--h4:#a8652c;--h5:#cf5b48}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums lining-nums}
a{color:var(--accent)}
.skip{position:absolute;left:-9999px}.skip:focus{left:16px;top:8px}
.frame{max-width:1180px;margin:0 auto;padding:0 24px}
nav ol{list-style:none;margin:0;padding:14px 0;display:flex;gap:6px 18px;flex-wrap:wrap;
font-size:14px;border-bottom:1px solid var(--rule)}
nav a{color:var(--dim);text-decoration:none}nav a:hover{color:var(--accent)}
header .over{margin:36px 0 8px;color:var(--dim);font-size:14px;letter-spacing:.01em}
h1{font-size:33px;line-height:1.22;letter-spacing:-.018em;font-weight:640;margin:0 0 14px;
max-width:24em;text-wrap:balance}
header .lead{font-size:18px;color:var(--dim);max-width:42em;margin:0 0 26px}
h2{font-size:21px;letter-spacing:-.01em;font-weight:640;margin:0 0 14px}
h3{font-size:17px;font-weight:640;margin:26px 0 6px}h3 small{font-weight:400;margin-left:6px}
section{padding:30px 0 8px;border-top:1px solid var(--rule)}
p{margin:0 0 12px;max-width:44rem}
small,.small{font-size:13px;color:var(--dim)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:1px;
margin:0 0 34px;
background:var(--rule);border:1px solid var(--rule);border-radius:8px;overflow:hidden}
.facts div{background:var(--paper);padding:13px 16px}
.facts dt{font-size:13px;color:var(--dim);margin:0}
.facts dd{margin:2px 0 0;font-size:20px;font-weight:600;letter-spacing:-.01em}
.facts dd small{display:block;font-weight:400;letter-spacing:0}
.stats{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px 24px;
margin:0 0 18px}
.stats dt{font-size:13px;color:var(--dim)}.stats dd{margin:0;font-weight:600}
.stats small{display:block;font-weight:400}.pair{margin:0 0 4px;font-size:14px;font-weight:600}
.notices{list-style:none;margin:0 0 18px;padding:0;display:grid;gap:8px}
.notices li{padding:11px 16px;border-left:4px solid var(--rule);background:var(--soft);
border-radius:0 6px 6px 0;max-width:54em}
.notices .warn{border-color:var(--warn);background:var(--warnbg)}
.notices .bad{border-color:var(--bad);background:var(--badbg)}
.notices b{font-weight:640}
.chart{margin:14px 0 28px}
figcaption{font-size:14px;color:var(--dim);max-width:46rem;margin:0 0 8px}
table{border-collapse:collapse;width:100%;font-size:15px}
th,td{padding:6px 0 6px 16px;text-align:left;vertical-align:middle;font-weight:400}
th:first-child,td:first-child{padding-left:0}
thead th,thead td{color:var(--dim);font-size:13px;border-bottom:1px solid var(--rule)}
tbody tr+tr>*{border-top:1px solid var(--grid)}
.n{text-align:right;white-space:nowrap}
.est{font-weight:600}
.group th{padding-top:20px;font-weight:640;border:0}
tbody tr.group+tr>*{border-top:0}
.scroll{overflow-x:auto;margin:10px 0 24px}.scroll table{min-width:560px}
.forest th.name,.lengths th.name{width:22%;overflow-wrap:anywhere}h1,h3,li,p{overflow-wrap:anywhere}
.forest small,.lengths small{display:block}
.forest td.plot{width:38%}.forest .says{width:112px;padding-left:18px}
.forest.plain td.plot{width:46%}
.lengths td.plot{width:58%}
.axis div{position:relative;height:18px;font-size:12px}
.axis span{position:absolute;transform:translateX(-50%);white-space:nowrap}
td.plot{padding:0 0 0 16px}
.strip{display:block;width:100%;height:26px;overflow:visible}
.strip line{vector-effect:non-scaling-stroke;stroke-width:1}
.grid{stroke:var(--grid)}.reference{stroke:var(--dim)}
.noise,.whole,.muted{fill:var(--wash);stroke:var(--accent);vector-effect:non-scaling-stroke}
.sampling{fill:var(--accent)}
.strip .dot{stroke:var(--ink);stroke-width:9;stroke-linecap:round}
.strip .small{stroke-width:6}
.strip .mark{stroke:var(--bad);stroke-width:2.5}
.strip .open{stroke:var(--paper);stroke-width:8;stroke-dasharray:2 3}
.strip .error{stroke:var(--ink);stroke-width:2}
.strip .limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:4 3}
.who th,.who td{vertical-align:top}.who td:last-child{width:32%}
.track{fill:var(--soft)}.length{fill:var(--accent)}.length.muted{fill:var(--wash)}
.say{font-size:13px;color:var(--dim);white-space:nowrap}
.say.good,.say.bad,.pill{border-radius:20px;padding:2px 10px;font-weight:600}
.say.good,.pill.good{background:var(--accent);color:var(--paper)}
.say.bad,.pill.bad{background:var(--bad);color:var(--paper)}
.pill{font-size:13px;display:inline-block;background:var(--soft);color:var(--dim);
box-shadow:inset 0 0 0 1px var(--rule);white-space:nowrap}
.pill.good,.pill.bad{box-shadow:none}
.key{font-size:13px;color:var(--dim);margin:8px 0 0;display:flex;gap:4px 18px;flex-wrap:wrap}
.key span{display:inline-flex;align-items:center;gap:7px}
.key i{display:inline-block;width:18px;height:8px;background:var(--wash)}
.key .k-noise,.key .k-length{border:1px solid var(--accent)}
.key .k-sampling{background:var(--accent)}
.key .k-mark{width:3px;height:15px;background:var(--bad)}
.key .k-dot{width:9px;height:9px;border-radius:9px;background:var(--ink)}
.key .k-limit{width:0;height:15px;background:none;border-left:2px dashed var(--bad)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:8px 36px;
margin:8px 0 24px}
.cards .chart{margin:6px 0 14px}
.cards figcaption{color:var(--ink);font-weight:600;margin:0}
.cards .lengths{font-size:13px}.cards .lengths th,.cards .lengths td{padding-top:1px;
padding-bottom:1px;border:0}
.cards .lengths th.name{width:34%}.cards .lengths td.plot{width:46%}
.cards .strip{height:19px}.cards .est{font-weight:400}
.heat{display:block;max-width:none;font-size:12px}.heat text{fill:var(--dim)}
.h0{fill:var(--h0)}.h1{fill:var(--h1)}.h2{fill:var(--h2)}.h3{fill:var(--h3)}.h4{fill:var(--h4)}
.h5{fill:var(--h5)}
.key .h{width:16px;height:12px;border-radius:3px}
.key .b0{background:var(--h0)}.key .b1{background:var(--h1)}.key .b2{background:var(--h2)}
.key .b3{background:var(--h3)}.key .b4{background:var(--h4)}.key .b5{background:var(--h5)}
details{margin:6px 0 18px}
summary{cursor:pointer;color:var(--accent);font-size:15px}
details[open] summary{margin-bottom:8px}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
pre{background:var(--soft);border-radius:6px;padding:14px 16px;overflow-x:auto;margin:8px 0}
ul.plain{margin:0 0 14px;padding:0 0 0 18px;max-width:44rem}ul.plain li{margin:0 0 6px}
footer{border-top:1px solid var(--rule);margin:26px 0 40px;padding:16px 0;font-size:13px;
color:var(--dim)}
.rows th{min-width:96px}.rows td:last-child{padding-right:2px}
.scatter{display:grid;grid-template-columns:64px minmax(0,1fr);grid-template-rows:300px 22px;
max-width:760px}
.yticks{position:relative;font-size:12px;color:var(--dim)}
.yticks span{position:absolute;right:10px;transform:translateY(50%)}
.area{position:relative;border:solid var(--rule);border-width:0 0 1px 1px}
.area .strip{height:100%}
.area b{position:absolute;font-size:12px;font-weight:600;transform:translate(8px,-2px)}
.scatter .axis{grid-column:2;color:var(--dim)}.scatter .axis div{padding-top:4px}
.xname,.yname{font-size:13px;color:var(--dim);margin:4px 0 6px 64px}
.strip .front{stroke:var(--accent);stroke-width:2}.area .strip .dot{stroke:var(--accent)}
.area .strip .weak{stroke:var(--wash)}
@media screen and (min-width:1100px){
.frame{display:grid;grid-template-columns:158px minmax(0,1fr);gap:0 52px}
nav{position:sticky;top:0;align-self:start;padding:42px 0;max-height:100vh;overflow-y:auto}
nav ol{flex-direction:column;border:0;padding:0;gap:8px}}
@media (min-width:701px),print{.heat{max-width:100%;height:auto}}
@media screen and (max-width:700px){
.frame{padding:0 16px}h1{font-size:26px}header .lead{font-size:16px}
header .over{margin-top:24px}.facts{grid-template-columns:1fr 1fr}.facts dd{font-size:18px}
nav ol{flex-wrap:nowrap;overflow-x:auto;white-space:nowrap}
.facts div:last-child:nth-child(odd){grid-column:1/-1}
.rows thead{position:absolute;left:-9999px}.scroll .rows{min-width:0}
.rows tr,.rows th,.rows td{display:block;padding:0!important;border:0!important}
.rows tr{padding:9px 0!important;border-top:1px solid var(--grid)!important}
.rows th{font-weight:600;margin-bottom:2px;overflow-wrap:anywhere}
.rows td{display:flex;justify-content:space-between;gap:16px;text-align:right;white-space:normal}
.rows td::before{content:attr(data-head);color:var(--dim);text-align:left;font-weight:400}
.rows td:empty{display:none}
.who td{width:auto!important;display:block!important;text-align:left!important}
.who td::before{display:block}
.forest thead tr,.forest tbody tr{display:grid;grid-template-columns:minmax(0,1fr) auto auto;
padding:8px 0;column-gap:14px;align-items:baseline}
.forest thead tr{padding:0}
.forest thead th{display:none}.forest th,.forest td{padding:0!important;border:0!important;
width:auto!important}
.forest tbody tr+tr{border-top:1px solid var(--grid)}
.forest .group th{grid-column:1/-1;padding-top:10px!important}
.forest tbody tr.group+tr{border-top:0}
.forest td.plot{grid-column:1/-1;grid-row:2;margin:3px 0}
.forest thead td.plot{grid-row:1}
.forest td.est{grid-column:2;grid-row:1}.forest td.says{grid-column:3;grid-row:1}
.forest .name{grid-column:1;grid-row:1}
.forest td.ival{grid-column:1/-1;grid-row:3;text-align:left;color:var(--dim);font-size:14px}
.lengths td.plot{width:44%}.lengths th.name{width:34%}
.cards{grid-template-columns:1fr}th,td{padding-left:10px}}
@media print{:root{--paper:#fff;--ink:#000}body{font-size:11pt}nav,.skip{display:none}
.frame{display:block;max-width:none;padding:0}section{padding:14pt 0 0}
tr,figure.chart,.notices li,.facts,.stats,.cards>*{break-inside:avoid}
h2,h3,figcaption,.group,.pair{break-after:avoid}figure.chart:has(tr:nth-child(12)){break-inside:auto}
.facts{grid-template-columns:repeat(auto-fit,minmax(112px,1fr))}
thead{display:table-header-group}.scroll{overflow:visible}.long{display:none}
pre{white-space:pre-wrap;font-size:8pt;padding:4pt 8pt}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
details::details-content{content-visibility:visible;display:block;height:auto}summary{list-style:none;color:var(--ink)}}
""")
