// What a reader of the page as it is laid out would miss. Evaluated in the page; a value for Layout.
(() => {
  const all = (what) => [...document.querySelectorAll(what)];
  const box = (e) => e.getBoundingClientRect();
  const wrong = [];
  const check = (elements, fault, why) => {
    const found = elements.filter(fault);
    if (found.length) wrong.push(`${why}: ${found[0].outerHTML.slice(0, 160)}`);
  };

  // pictures
  const pictures = all('svg').filter((e) => !e.closest('details:not([open])'));
  const shapes = (e) => [...e.querySelectorAll('rect,line,path')].some((s) => s.getBBox);
  check(pictures, (e) => box(e).width < 16 || box(e).height < 6 || !shapes(e), 'unseen');
  check(all('svg'), (e) => e.getAttribute('role') !== 'img' || !e.getAttribute('aria-label'),
    'no alternative');
  check(all('figure'), (e) => !e.querySelector('figcaption')?.textContent.trim(), 'no caption');

  // headings
  const levels = all('h1,h2,h3,h4,h5,h6').map((e) => +e.tagName[1]);
  if (levels[0] !== 1 || levels.some((l, i) => i && (l > levels[i - 1] + 1 || l === 1)))
    wrong.push(`headings out of order: ${levels}`);
  check(all('section'), (e) => e.textContent.trim() === e.querySelector('h2').textContent.trim(),
    'an empty section');

  // room
  const roomy = (e) => e.closest('.scroll,nav,pre,details,[aria-hidden]');
  const texts = all('h1,h2,h3,p,li,dt,dd,th,td,figcaption,span,small').filter((e) => !roomy(e));
  const shown = (e) => box(e).width > 2 && box(e).right > 0;
  check(texts, (e) => shown(e) && box(e).right > innerWidth + 1, 'beyond the window');
  check(all('th,td,dd').filter((e) => !roomy(e)),
    (e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1, 'over its neighbour');
  const meet = (ticks) => ticks.slice(1).some((t, i) => box(t).left < box(ticks[i]).right);
  check(all('.axis div'), (e) => meet([...e.children]), 'ticks meet');

  // contrast: WCAG 2.2, 1.4.3
  const part = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const colour = (text) => text.match(/[\d.]+/g).map(Number);
  const solid = (c) => c.length < 4 || c[3] > 0;
  const ground = (e) => {
    const own = colour(getComputedStyle(e).backgroundColor);
    return solid(own) ? own : e.parentElement ? ground(e.parentElement) : [255, 255, 255];
  };
  const apart = (a, b) => {
    const [low, high] = [a, b].map((c) => light(c.map((x) => x / 255))).sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const ink = (e) => colour(getComputedStyle(e)[e.ownerSVGElement ? 'fill' : 'color']);
  const written = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  check(all('body *').filter((e) => written(e) && !e.matches('style,script,title')),
    (e) => apart(ink(e).slice(0, 3), ground(e).slice(0, 3)) < 4.5, 'faint');

  // words
  const copy = document.body.cloneNode(true);
  copy.querySelectorAll('pre,style,script').forEach((e) => e.remove());
  const odd = copy.textContent.match(/.{0,40}\b(NaN|nan|inf|None|null|undefined|Infinity)\b/);
  if (odd) wrong.push(`no figure: ${odd[0]}`);

  const root = document.documentElement;
  return {
    dark: light(ground(document.body).slice(0, 3).map((x) => x / 255)) < 0.2,
    figures: pictures.length,
    overflow: root.scrollWidth - root.clientWidth,
    wrong,
  };
})()
