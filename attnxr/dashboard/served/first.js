// Draws the parts from what the server knows, until the page proper has drawn the same.
const WAIT_MS = 30
const MOST_MS = 60_000
const first = document.getElementById("first")
const read = (id) => JSON.parse(document.getElementById(id).textContent)
const kinds = read("first-kinds")
const shared = document.getElementById("first-shared").textContent
const sheets = {}
const sheet = (css) => {
  if (!sheets[css]) (sheets[css] = new CSSStyleSheet()).replaceSync(css)
  return sheets[css]
}
// What lies out of reach of the page's style: rows and columns in a part, or in one of them with a style of its own.
const boxes = sheet(document.getElementById("first-boxes").textContent)
const roots = [] // closed ones, so that nothing on the page takes what is in them for the page
const drawPart = (box, { part, properties, sheets: own, children }) => {
  const { properties: initial, packed, style } = kinds[part]
  const values = Object.entries(initial).map(([key, value]) => [key, packed.includes(key) ? JSON.stringify(value) : value])
  const views = children.map((child) => draw(child))
  const model = { ...Object.fromEntries(values), ...properties, send_msg() {}, on() {}, get_child: () => views }
  const shadow = box.attachShadow({ mode: "closed" })
  shadow.adoptedStyleSheets = [boxes, ...[shared, style, ...own].map(sheet)]
  roots.push(shadow)
  const container = document.createElement("div") // as Panel has one around what a script gives, of this class
  container.className = part.replace(/([a-z])([A-Z])/g, "$1-$2").toLowerCase()
  container.style.width = "100%"
  container.append(parts[part]({ model }))
  shadow.append(container)
}
const draw = (node) => {
  const box = document.createElement("div")
  if (!node) return box
  // Names that nothing in a part has, which wears their style too.
  box.className = node.part ? "first-part" : `first-${node.row ? "row" : "column"} ${node.classes?.join(" ") ?? ""}`
  box.style.margin = node.margin
  if (node.height) box.style.height = `${node.height}px`
  for (const [name, value] of Object.entries(node.styles)) box.style.setProperty(name, value)
  if (node.part) {
    drawPart(box, node)
    return box
  }
  const within = node.sheets?.length ? box.attachShadow({ mode: "closed" }) : box
  if (within !== box) within.adoptedStyleSheets = [boxes, ...node.sheets.map(sheet)]
  within.append(...node.children.filter(Boolean).map(draw))
  return box
}
const below = first.querySelector(".below")
below.append(...read("first-tree").map(draw))
performance.mark("attnxr-first")

// The same words, wherever they stand.
const WORDS = "h2, th, td, textarea, select, [role=tab], .chip"
const wanted = roots.reduce((sum, root) => sum + root.querySelectorAll(WORDS).length, 0)
const count = (root) => {
  let found = root.querySelectorAll(WORDS).length
  for (const node of root.querySelectorAll("*")) if (node.shadowRoot) found += count(node.shadowRoot)
  return found
}
const follow = () => {
  const there = Array.from(document.querySelectorAll("[data-root-id]"), count).reduce((sum, each) => sum + each, 0)
  if (there < wanted && performance.now() < MOST_MS) {
    setTimeout(follow, WAIT_MS)
    return
  }
  // In the frame after the one that shows all of it.
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const main = document.querySelector(".main-content")
    if (main) main.scrollTop = below.scrollTop
    first.remove()
    performance.mark("attnxr-live")
  }))
}
setTimeout(follow, WAIT_MS)
