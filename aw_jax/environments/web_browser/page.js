// Runs in every document before its own scripts: lists the accessibility tree, finds what is named.
// Chromium computes roles and names itself (computedRole, computedName).
(() => {
  const numbers = new WeakMap();  // element -> the number that names it
  const elements = new Map();
  const listening = new WeakSet();  // elements that do something when they are clicked
  const CLICKS = new Set(['click', 'mousedown', 'mouseup', 'pointerdown', 'dblclick']);
  const TRANSPARENT = new Set(['', 'generic', 'none', 'presentation', 'paragraph', 'LabelText',
    'emphasis', 'strong', 'superscript', 'subscript', 'section', 'rowgroup', 'code', 'time']);
  const LABELLED = new Set(['checkbox', 'radio', 'switch']);
  const UNSEEN = new Set(['SCRIPT', 'STYLE', 'TEMPLATE', 'NOSCRIPT', 'HEAD', 'LINK', 'META',
    'CANVAS']);
  const SHAPES = new Set(['circle', 'ellipse', 'rect', 'polygon', 'line', 'path']);
  const TYPED = new Set(['text', 'password', 'search', 'email', 'number', 'tel', 'url', 'date',
    'time']);
  const listen = EventTarget.prototype.addEventListener;
  EventTarget.prototype.addEventListener = function (type, ...rest) {
    if (CLICKS.has(type) && this instanceof Element) listening.add(this);
    return listen.call(this, type, ...rest);
  };

  const plain = (text) => (text || '').replace(/\s+/g, ' ').trim();
  const isShape = (element) => SHAPES.has(element.localName) && element.ownerSVGElement;
  const isTyped = (element) =>
    element.localName === 'textarea' ||
    (element.localName === 'input' && TYPED.has(element.type)) || element.isContentEditable;
  const isDisabled = (element) =>
    element.matches(':disabled') || element.getAttribute('aria-disabled') === 'true';

  function isVisible(element) {
    if (!element.checkVisibility({visibilityProperty: true})) return false;
    const box = element.getBoundingClientRect();
    return (box.width > 0 && box.height > 0) || element.childElementCount > 0;
  }

  function roleOf(element, visible) {
    if (isShape(element)) return element.localName;
    if (!visible) return element.getAttribute('role') || 'generic';
    const role = element.computedRole;
    return isTyped(element) && TRANSPARENT.has(role) ? 'textbox' : role;
  }

  function isActive(element) {
    return listening.has(element) || element.onclick || element.onmousedown ||
      element.draggable && element.localName !== 'img' && element.localName !== 'a' ||
      element.tabIndex >= 0 || element.matches('.ui-draggable, .ui-sortable-handle');
  }

  function valueOf(element, all) {
    if (element.localName === 'select') {
      return Array.from(element.selectedOptions, (option) => plain(option.label)).join(', ');
    }
    if (element.localName === 'input' && element.type === 'password' && !all) {
      return '\u2022'.repeat(element.value.length);
    }
    if (isTyped(element) && 'value' in element) return element.value;
    if (element.isContentEditable) return plain(element.innerText);
    if (element.localName === 'input' && ['range', 'color'].includes(element.type)) {
      return element.value;
    }
    return element.getAttribute('aria-valuetext') || element.getAttribute('aria-valuenow') || '';
  }

  // What tells apart what has no name: its class or id in the page, its colour.
  function looksOf(element) {
    const looks = [], colour = getComputedStyle(element).backgroundColor.match(/[\d.]+/g) || [];
    if (element.classList.length) looks.push(`class=${JSON.stringify(element.classList[0])}`);
    else if (element.id) looks.push(`id=${JSON.stringify(element.id)}`);
    if (colour.length === 3 && !element.firstElementChild && element.tabIndex < 0) {
      const hex = colour.map((part) => Number(part).toString(16).padStart(2, '0'));
      looks.push(`color="#${hex.join('')}"`);
    }
    return looks;
  }

  function statesOf(element, role, named, all) {
    const states = [];
    const is = (name) => element.getAttribute(name) === 'true';
    if (element.localName === 'input' && (element.type === 'checkbox' || element.type === 'radio')
        ? element.checked : is('aria-checked')) states.push('checked');
    if (element.localName === 'option' ? element.selected : is('aria-selected')) {
      states.push('selected');
    }
    if (is('aria-pressed')) states.push('pressed');
    const expanded = element.getAttribute('aria-expanded');
    if (expanded !== null) states.push(expanded === 'true' ? 'expanded' : 'collapsed');
    if (element.localName === 'details') states.push(element.open ? 'expanded' : 'collapsed');
    if (element.localName === 'textarea') states.push('multiline');
    if (element.required) states.push('required');
    if (element.readOnly) states.push('readonly');
    if (isDisabled(element)) states.push('disabled');
    if (element === document.activeElement && element !== document.body) states.push('focused');
    if (TRANSPARENT.has(role) || isShape(element)) states.push('clickable');
    if (!named) states.push(...looksOf(element));
    if (all && element.localName === 'a' && element.getAttribute('href')) {
      states.push(`href=${JSON.stringify(element.getAttribute('href'))}`);
    }
    return states;
  }

  function numberOf(element, count) {
    if (!numbers.has(element)) {
      numbers.set(element, ++count.last);
      elements.set(count.last, element);
    }
    return numbers.get(element);
  }

  // The nodes of the page in order: depth, number (0 where it has none), role, name, value, states.
  // `all` adds what is hidden from sight; `leave` names what is no part of the page.
  function tree({last, leave, all}) {
    const nodes = [], count = {last};
    let run = '', runDepth = 0;

    function flush() {
      const text = plain(run);
      run = '';
      const before = nodes.at(-1);  // the label of a box may stand behind it
      if (!text || (text === before[3] && LABELLED.has(before[2]))) return;
      nodes.push([runDepth, 0, 'text', text, '', []]);
    }

    function options(select, depth) {
      for (const option of select.options) {
        const states = [];
        if (option.selected) states.push('selected');
        if (option.disabled) states.push('disabled');
        nodes.push([depth, 0, 'option', plain(option.label), '', states]);
      }
    }

    function walk(element, depth, covered, shown) {
      if (UNSEEN.has(element.tagName) || (leave && element.matches(leave))) return;
      if (element.localName === 'svg' && element.closest('button, a')) return;  // an icon
      const visible = shown && isVisible(element);
      if (!visible && !all) return;
      const role = roleOf(element, visible);
      const inline = getComputedStyle(element).display.startsWith('inline');
      const active = visible && element !== document.body && isActive(element);
      const shownNode = !TRANSPARENT.has(role) || active ||
        (!visible && shown && element.textContent.trim());
      if (shownNode) {
        flush();
        const whole = plain(element.textContent);
        let name = plain(element.computedName);
        if (!name && !element.firstElementChild && !isTyped(element)) name = whole;
        if (isShape(element)) {
          name = element.getAttribute('fill') || element.style.fill || '';
        }
        const states = visible ? statesOf(element, role, name || element.textContent.trim() || isTyped(element), all) :
          ['hidden'];
        nodes.push([depth, visible ? numberOf(element, count) : 0, role || 'generic',
          name, valueOf(element, all), states]);
        if (element.localName === 'select') return options(element, depth + 1);
        if (isTyped(element)) return;
        covered = covered || (name !== '' && name === whole);
        depth += 1;
      } else if (!inline) {
        flush();
      }
      for (const child of element.childNodes) {
        if (child.nodeType === Node.TEXT_NODE) {
          if (!covered && plain(child.data)) {
            if (!run) runDepth = depth;
            run += child.data;
          } else if (run) {
            run += ' ';
          }
        } else if (child.nodeType === Node.ELEMENT_NODE) {
          if (child.localName === 'br') flush();
          else walk(child, depth, covered, visible);
        }
      }
      if (shownNode || !inline) flush();
    }

    nodes.push([0, 0, 'document', plain(document.title), '',
      [`url=${JSON.stringify(location.href)}`]]);
    if (location.protocol === 'chrome-error:') {  // what it says of the reason varies
      return {nodes: [...nodes, [1, 0, 'text', 'This site cannot be reached', '', []]], last};
    }
    if (document.body) walk(document.body, 1, false, true);
    flush();
    for (const key of all ? Object.keys(localStorage).sort() : []) {
      nodes.push([1, 0, 'storage', key, localStorage.getItem(key), []]);
    }
    return {nodes, last: count.last};
  }

  // Where an element is to be clicked, after it was scrolled into sight, or why it cannot be.
  function find(number) {
    const element = elements.get(number);
    if (!element || !element.isConnected) return {error: `there is no element ${number}`};
    if (!isVisible(element)) return {error: `element ${number} is hidden`};
    if (isDisabled(element)) return {error: `element ${number} is disabled`};
    element.scrollIntoView({block: 'nearest', inline: 'nearest', behavior: 'instant'});
    const box = Array.from(element.getClientRects()).find((r) => r.width && r.height) ||
      element.getBoundingClientRect();
    return {...at(box, 1 / 2, 1 / 2), box, typed: isTyped(element),
      fixed: Boolean(element.readOnly), list: element.localName === 'select', checked: Boolean(element.checked)};
  }

  const at = (box, across, down) => ({x: box.x + box.width * across, y: box.y + box.height * down});

  const GRID = [.06, .18, .3, .42, .58, .7, .82, .94];
  const POINTS = [[.5, .5], ...GRID.flatMap((down) => GRID.map((across) => [across, down]))];

  // `find`, at a point where a click hits the element itself: its middle, else any of a grid.
  function reach(number) {
    const found = find(number);
    if (found.error) return found;
    const element = elements.get(number);
    for (const [across, down] of POINTS) {
      const point = at(found.box, across, down);
      const hit = document.elementFromPoint(point.x, point.y);
      const label = hit && hit.closest('label');
      if (hit && (element.contains(hit) || hit.contains(element) ||
          (label && label.control === element))) return {...found, ...point};
    }
    return {error: `element ${number} is covered by another one`};
  }

  Object.defineProperty(window, 'awJax', {
    value: {tree, find, reach, element: (number) => elements.get(number)}});
})();
