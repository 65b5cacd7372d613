const legible = (text) => globalThis.attnxrLegible?.(text) ?? text
const FIRST_HEADS = 12
// Below this many pixels a column, the distance stands under its token instead of beside it.
const ONE_LINE_WIDTH = 112

const make = (tag, className = "", text = "") => {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (text) node.textContent = text
  return node
}

// A text in place of another one, which is cheaper than a new one.
const write = (node, text) => {
  if (node.firstChild.data !== text) node.firstChild.data = text
}

export function render({ model }) {
  const box = make("div")
  const scroller = make("div", "scroll")
  const table = make("table")
  const caption = make("caption", "unseen")
  const thead = make("thead")
  const tbody = make("tbody")
  const legend = make("div", "legend")
  scroller.tabIndex = 0
  scroller.setAttribute("role", "region")
  table.append(caption, thead, tbody)
  scroller.append(table)
  box.append(scroller, legend)
  let heads = 0
  let named = "head"  // what a column is; empty where there is but one, of no head

  const nameRow = () => {
    const row = make("tr", "names")
    const corner = make("th", "corner", named)
    corner.scope = "row"
    row.append(corner)
    for (let head = 0; head < heads; head++) {
      const cell = make("th")
      cell.scope = "col"
      cell.dataset.head = head
      if (named) {
        const button = make("button", "", String(head))
        button.type = "button"
        button.ariaLabel = `${named} ${head}`
        button.ariaPressed = "false"
        cell.append(button)
      } else {
        cell.textContent = "stream"
      }
      row.append(cell)
    }
    return row
  }
  const emptyRow = (name, className) => {
    const row = make("tr", className)
    const first = make("th", "", name)
    first.scope = "row"
    row.append(first)
    for (let head = 0; head < heads; head++) {
      const cell = make("td")
      cell.dataset.head = head
      row.append(cell)
    }
    return row
  }
  const build = (rows) => {
    table.style.setProperty("--heads", heads)
    thead.replaceChildren(nameRow(), ...(model.has_own ? [emptyRow("own rank", "own-rank")] : []))
    tbody.replaceChildren(...Array.from({ length: rows }, (_, i) => emptyRow(String(i + 1), "")))
  }
  // Cells stay, and only what they say is changed: to lay out new ones costs the browser far more.
  const fill = (cell, parts) => {
    if (parts === null) {
      cell.className = ""
      cell.replaceChildren(make("span", "blank"))
      return
    }
    const [token, distance, mark, note] = parts
    if (cell.children.length !== 2) cell.replaceChildren(make("span", "token", " "), make("span", "number", " "))
    const [word, number] = cell.children
    const className = `${mark ?? ""}${Number(cell.dataset.head) === model.head ? " chosen" : ""}`
    if (cell.className !== className) cell.className = className
    write(number, distance)
    const shown = legible(token)
    write(word, shown)
    if (shown !== token) word.dataset.token = token
    else if (word.dataset.token) delete word.dataset.token
    if (word.hasAttribute("title")) word.title = token
    const sub = word.children[0]
    if (note && sub) write(sub, note)
    else if (note) word.append(make("sub", "", note))
    else if (sub) sub.remove()
  }
  const press = () => {
    for (const row of table.rows) {
      for (const cell of row.cells) {
        if (cell.dataset.head === undefined) continue
        const chosen = Number(cell.dataset.head) === model.head
        cell.classList.toggle("chosen", chosen)
        if (cell.firstChild?.tagName === "BUTTON") cell.firstChild.ariaPressed = String(chosen)
      }
    }
    show()
  }
  // Bring the chosen column into view, inside the table's own box only.
  const show = () => {
    const cell = thead.rows[0]?.cells[model.head + 1]
    if (!cell) return
    const stuck = thead.rows[0].cells[0].offsetWidth
    const left = cell.offsetLeft - stuck
    const right = cell.offsetLeft + cell.offsetWidth - scroller.clientWidth
    if (scroller.scrollLeft > left) scroller.scrollLeft = left
    else if (scroller.scrollLeft < right) scroller.scrollLeft = right
  }
  const fit = () => {
    table.classList.toggle("two-lines", scroller.clientWidth < ONE_LINE_WIDTH * heads)
    table.classList.toggle("fits", scroller.scrollWidth <= scroller.clientWidth)
    show()
  }
  const draw = () => {
    const { heads: count, name = named, own, cells } = JSON.parse(model.table)
    const waiting = count === undefined
    const [columns, rows] = waiting
      ? [heads || FIRST_HEADS, tbody.rows.length || model.expected_rows]
      : [count, cells.length]
    caption.textContent = model.caption
    scroller.setAttribute("aria-label", model.caption)
    table.classList.toggle("waiting", waiting)
    const built = columns !== heads || rows !== tbody.rows.length || name !== named
    if (built) {
      heads = columns
      named = name
      build(rows)
    }
    const lines = waiting ? [] : [...(model.has_own ? [own] : []), ...cells]
    Array.from(table.rows).slice(1).forEach((row, i) => {
      for (let head = 0; head < heads; head++) fill(row.cells[head + 1], waiting ? null : lines[i][head])
    })
    if (built) {
      press()
      fit()
    }
  }
  const drawLegend = () => {
    legend.replaceChildren(
      ...model.legend.map(([mark, sample, meaning]) => {
        const item = make("span", "item")
        item.append(make("span", `sample ${mark}`, sample), meaning)
        return item
      }),
    )
  }
  table.addEventListener("click", (event) => {
    const head = event.target.closest("[data-head]")?.dataset.head
    if (head !== undefined && !table.classList.contains("waiting")) model.send_msg({ head: Number(head) })
  })
  // What is cut off is told when the pointer rests on it.
  table.addEventListener("mouseover", (event) => {
    const word = event.target.closest("td")?.querySelector(".token")
    if (word) word.title = word.dataset.token ?? word.firstChild.data
  })
  new ResizeObserver(fit).observe(scroller)
  model.on("table", draw)
  model.on("head", press)
  draw()
  drawLegend()
  return box
}
