// A figure's own picture files, painted by BokehJS in the browser: the server needs none for it.
const TYPES = { png: "PNG", svg: "SVG" }

const figureUnder = (view) => {
  if (view.model.type === "Figure") return view
  for (const child of view.child_views ?? []) {
    const found = figureUnder(child)
    if (found) return found
  }
  return null
}

const SVG = "http://www.w3.org/2000/svg"
const LINE = 16 // pixels
const SIZE = 12

// Lines of so many pixels, as the browser writes them.
const wrapped = (text, width, pen) => {
  const lines = [""]
  for (const word of text.split(/\s+/)) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word
    if (pen.measureText(longer).width <= width || !lines.at(-1)) lines[lines.length - 1] = longer
    else lines.push(word)
  }
  return lines
}

// The figure, and below it what a reader must know who sees it without its page.
const captioned = (source, caption, colors) => {
  const picture = new DOMParser().parseFromString(source, "image/svg+xml").documentElement
  const [width, height] = ["width", "height"].map((name) => parseFloat(picture.getAttribute(name)))
  const pen = document.createElement("canvas").getContext("2d")
  pen.font = `${SIZE}px sans-serif`
  const lines = caption.flatMap((text) => wrapped(text.replace("{address}", location.href), width - 2 * SIZE, pen))
  const make = (name, attributes, text = "") => {
    const node = document.createElementNS(SVG, name)
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value)
    node.textContent = text
    return node
  }
  const whole = make("svg", { xmlns: SVG, width, height: height + LINE * (lines.length + 1) })
  whole.append(
    make("title", {}, caption[0]),
    make("desc", {}, caption.slice(1).join("\n").replace("{address}", location.href)),
    make("rect", { width: "100%", height: "100%", fill: colors.paper }),
    document.importNode(picture, true),
    ...lines.map((line, i) =>
      make("text", { x: SIZE, y: height + LINE * (i + 1), "font-family": "sans-serif", "font-size": SIZE, fill: colors.ink }, line),
    ),
  )
  return new XMLSerializer().serializeToString(whole)
}

export function render({ model, view }) {
  const box = document.createElement("div")
  box.className = "figure-files"
  const save = async ({ format, file, caption }) => {
    const figure = figureUnder(view.parent)
    if (!figure) return
    let blob = await figure.export(format).to_blob()
    if (format === "svg") {
      const { color: ink } = getComputedStyle(box)
      const paper = getComputedStyle(box).getPropertyValue("--panel-surface-color").trim() || "#ffffff"
      blob = new Blob([captioned(await blob.text(), caption, { ink, paper })], { type: "image/svg+xml" })
    }
    const link = document.createElement("a")
    link.href = URL.createObjectURL(blob)
    link.download = file
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
  }
  for (const [format, name] of Object.entries(TYPES)) {
    const button = document.createElement("button")
    button.type = "button"
    button.textContent = name
    button.title = `Save this figure as ${name}`
    button.ariaLabel = `Save “${model.title}” as ${name}`
    button.addEventListener("click", () => model.send_msg({ format }))
    box.append(button)
  }
  model.on("msg:custom", save)
  return box
}
