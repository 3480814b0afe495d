/* The order of what a search finds: Sphinx's own scores, with guides first and pages for contributors last. */
var Scorer = {
  score: ([page, , , , score]) => {
    if (/^(how-to|explanation)\/(?!index)|^tutorial$/.test(page)) return score + 10;
    return /^(reference\/(?!index)|index$)/.test(page) ? score : score - 10;
  },
  // As Sphinx has them: the name of an object, the title of a page or section, a word of the text.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
