const legible = (text) => globalThis.attnxrLegible?.(text) ?? text

// What is typed goes out when nothing was typed for so long.
const PAUSE_MS = 150

const make = (tag, className = "", text = "") => {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (text) node.textContent = text
  return node
}

export function render({ model }) {
  const box = make("div", "heads")
  const line = make("div", "line")
  const label = make("label", "search")
  const input = make("input")
  const said = make("span", "said")
  const scroller = make("div", "scroll")
  const table = make("table")
  const thead = make("thead")
  const tbody = make("tbody")
  input.type = "search"
  input.maxLength = 100
  input.spellcheck = false
  input.placeholder = "any"
  label.append(make("span", "", "Writes words that begin with"), input)
  said.setAttribute("role", "status")
  line.append(label, said)
  scroller.setAttribute("role", "region")
  scroller.setAttribute("aria-label", model.caption)
  scroller.tabIndex = 0
  table.append(make("caption", "unseen", model.caption), thead, tbody)
  scroller.append(table)
  box.append(line, scroller)
  let columns = []
  let byHead = new Map()
  let timer = 0

  const tell = (what, at, words = "") => model.send_msg({ do: what, at, words })
  const drawHead = () => {
    const row = make("tr")
    columns.forEach(([name, text], i) => {
      const cell = make("th", "figure")
      const button = make("button", "", text)
      button.type = "button"
      button.title = `Order by ${text}`
      cell.scope = "col"
      if (name === model.sort) {
        cell.ariaSort = model.descending ? "descending" : "ascending"
        button.append(make("span", "way", model.descending ? " ▼" : " ▲"))
        button.lastChild.ariaHidden = "true"
      }
      button.addEventListener("click", () => tell("order", i))
      cell.append(button)
      row.append(cell)
    })
    if (model.searched !== null) {
      const cell = make("th", "words", "writes most")
      cell.scope = "col"
      row.append(cell)
    }
    // The button that was pressed keeps the focus.
    const focused = Array.from(thead.querySelectorAll("button")).indexOf(thead.getRootNode().activeElement)
    thead.replaceChildren(row)
    if (focused >= 0) thead.querySelectorAll("button")[focused]?.focus()
  }
  const rowOf = ([index, cells, words]) => {
    const row = make("tr")
    row.dataset.head = index
    row.append(...cells.map((text) => make("td", "figure", text)))
    if (model.searched !== null) {
      const cell = make("td", "words", legible(words))
      cell.title = words
      row.append(cell)
    }
    const button = make("button", "", cells[1])
    button.type = "button"
    button.tabIndex = -1
    button.ariaLabel = `layer ${cells[0]}, head ${cells[1]}`
    row.cells[1].replaceChildren(button)
    byHead.set(index, row)
    return row
  }
  let chosen = []
  const mark = () => {
    for (const row of chosen) {
      row.classList.remove("chosen", "pinned")
      const button = row.querySelector("button")
      button.ariaPressed = "false"
      button.tabIndex = -1
    }
    const [one, pinned] = [byHead.get(model.head), byHead.get(model.pinned)]
    pinned?.classList.add("pinned")
    one?.classList.add("chosen")
    const entry = one ?? tbody.rows[0]
    if (one) one.querySelector("button").ariaPressed = "true"
    if (entry) entry.querySelector("button").tabIndex = 0
    chosen = [one, pinned, entry].filter(Boolean)
  }
  const show = () => {
    const row = byHead.get(model.head)
    if (!row) return
    // Only the table scrolls: the page stays where it is.
    const [top, bottom] = [row.offsetTop - thead.offsetHeight, row.offsetTop + row.offsetHeight]
    if (top < scroller.scrollTop) scroller.scrollTop = top
    else if (bottom > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = bottom - scroller.clientHeight
  }
  const draw = () => {
    const focused = tbody.contains(tbody.getRootNode().activeElement)
    const table = JSON.parse(model.table)
    columns = table.columns
    drawHead()
    byHead = new Map()
    chosen = []
    tbody.replaceChildren(...table.rows.map(rowOf))
    mark()
    show()
    if (focused) tbody.querySelector("[tabindex='0']")?.focus({ preventScroll: true })
  }
  const follow = () => {
    const focused = tbody.contains(tbody.getRootNode().activeElement)
    mark()
    requestAnimationFrame(show) // once all that a click changes is there: to ask where a row is lays out the page
    if (focused) byHead.get(model.head)?.querySelector("button").focus({ preventScroll: true })
  }
  const drawSearch = () => {
    label.hidden = model.searched === null
    said.textContent = model.said
    if (input !== input.getRootNode().activeElement) input.value = model.searched ?? ""
  }
  tbody.addEventListener("click", (event) => {
    const row = event.target.closest("tr")
    if (!row) return
    row.querySelector("button").focus({ preventScroll: true }) // arrows go on from here
    tell("choose", Number(row.dataset.head))
  })
  tbody.addEventListener("keydown", (event) => {
    const here = event.target.closest("tr")
    const last = tbody.rows.length - 1
    const at = here ? here.sectionRowIndex : 0
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: last, PageDown: at + 10, PageUp: at - 10 }[event.key]
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return
    event.preventDefault()
    event.stopPropagation() // arrows elsewhere on the page move by layers and heads
    const row = tbody.rows[Math.min(Math.max(to, 0), last)]
    row.querySelector("button").focus({ preventScroll: true })
    tell("choose", Number(row.dataset.head))
  })
  input.addEventListener("input", () => {
    clearTimeout(timer)
    timer = setTimeout(() => tell("search", -1, input.value), PAUSE_MS)
  })
  for (const name of ["sort", "descending"]) model.on(name, drawHead)
  model.on("table", draw)
  for (const name of ["head", "pinned"]) model.on(name, follow)
  for (const name of ["searched", "said"]) model.on(name, drawSearch)
  new ResizeObserver(show).observe(scroller) // when it is there, too: before, nothing has a place
  draw()
  drawSearch()
  return box
}
