// Asked of every graph that Stemma can be kept in, over the same log: each must have the same
// answer, rows in the same order, or be refused with the same words. One query ends where an empty
// line stands.

MATCH (n) RETURN count(n)

MATCH (n) RETURN n LIMIT 300

MATCH (n:Person) RETURN n.id, n.name

MATCH (t:EntityType) RETURN t ORDER BY t.name

MATCH (t:EntityType) RETURN t.name, t.registered, t.description

MATCH (r:Resource) RETURN r.id SKIP 10 LIMIT 20

MATCH (r:Resource) RETURN properties(r) ORDER BY r.name, r.id LIMIT 50

MATCH (r:Resource) WHERE r.archived RETURN r.name ORDER BY r.created_at DESC, r.id

MATCH (a:Annotation) RETURN a.id, a.motivations, a.created_by

MATCH (a)-[e]->(b) RETURN type(e), count(*) ORDER BY type(e)

MATCH (a)-[e]-(b) RETURN labels(a)[0] AS one, type(e) AS kind, labels(b)[0] AS other, count(*) AS n ORDER BY one, kind, other

MATCH (:EntityType {name: 'Note'})<-[:HAS_TYPE]-(r) RETURN r.name ORDER BY r.name, r.id

MATCH (n {id: 'entity_type:Größe'})<-[e]-(r) RETURN e, r.id

MATCH (c:Collection {name: 'letters/1781'})<-[:IN_COLLECTION]-(r:Resource) RETURN c, collect(r.name)

MATCH (r:Resource)<-[:ANNOTATES]-(a:Annotation)-[:REFERS_TO]->(other:Resource) RETURN r.name, other.name, count(a) AS times ORDER BY times DESC, r.name, other.name LIMIT 40

MATCH (a:Annotation)-[:TARGETS]->(r:Resource) RETURN a.id, r.id ORDER BY a.id, r.id

MATCH (a:Annotation) WHERE NOT (a)-[:REFERS_TO]->() RETURN count(a)

MATCH (copy:Resource)-[:DERIVED_FROM*1..3]->(source:Resource) RETURN copy.id, source.id ORDER BY copy.id, source.id

MATCH p = (copy:Resource)-[:DERIVED_FROM*2..4]->(source) RETURN length(p), [n IN nodes(p) | n.name] AS names ORDER BY length(p), names LIMIT 30

MATCH p = (:Person)-[:CREATED]->(:Resource)-[:HAS_TYPE]->(:EntityType {name: 'Note'}) RETURN p LIMIT 5

MATCH (r:Resource) OPTIONAL MATCH (r)-[:IN_COLLECTION]->(c) RETURN r.name, c.name ORDER BY r.id LIMIT 40

MATCH (r:Resource) WITH r, COUNT { (r)--() } AS degree RETURN r.id, degree ORDER BY degree DESC, r.id LIMIT 20

MATCH (r:Resource) WHERE EXISTS { (r)<-[:REFERS_TO]-(:Annotation) } RETURN count(r)

MATCH (r:Resource) WHERE r.name =~ '.*[05]' RETURN r.name ORDER BY r.name

MATCH (r:Resource) WHERE r.name STARTS WITH 'thing 1' AND NOT r.archived RETURN r.name ORDER BY r.name

MATCH (r:Resource) RETURN r.language AS language, count(*) AS n ORDER BY language

MATCH (r:Resource) RETURN min(r.created_at) <= max(r.created_at), sum(r.byte_size), avg(size(r.name))

MATCH (r:Resource) UNWIND r.entity_types AS kind RETURN kind, collect(DISTINCT r.collection) AS places ORDER BY kind

MATCH (a:Resource {name: 'thing 3'}), (b:Resource {name: 'thing 40'}), p = shortestPath((a)-[*]-(b)) RETURN length(p)

MATCH (a:Resource {name: 'thing 7'}), (b:Resource {name: 'thing 90'}), p = allShortestPaths((a)-[:ANNOTATES|REFERS_TO*..6]-(b)) RETURN [n IN nodes(p) | n.id] AS way ORDER BY way

MATCH (r:Resource)-[:HAS_TYPE]->(t) WITH t, count(r) AS n WHERE n > 3 RETURN t.name, n ORDER BY n DESC, t.name

MATCH (r:Resource) RETURN r {.name, .archived, first: head(r.entity_types)} ORDER BY r.id LIMIT 10

MATCH (r:Resource) RETURN r.name AS name UNION MATCH (t:EntityType) RETURN t.name AS name

MATCH (a)-[e:CREATED|HAS_TYPE]->(b) RETURN a.id, type(e), b.id LIMIT 60

MATCH (a)<-[e]-(b) WHERE a.id = 'person:anonymous' OR b.id = 'person:anonymous' RETURN count(e)

MATCH (n:Nothing) RETURN n

MATCH ()-[e:LIKES]->() RETURN e

MATCH (n {id: 'no id'}) RETURN n

MATCH (n) WHERE n:Resource OR n:Person RETURN labels(n), count(*) ORDER BY labels(n)

MATCH (n) RETURN keys(n) AS keys, count(*) AS n ORDER BY keys

MATCH (a)-[e]->(b) RETURN id(a) = a.id, startNode(e) = a, endNode(e).id = b.id, elementId(b) = b.id LIMIT 1

WITH 1.0 / 0 AS big, 0.0 / 0 AS none RETURN big, none, -big

RETURN [x IN range(1, 10) WHERE x % 2 = 0 | x ^ 2] AS squares, reduce(s = 0, x IN [1, 2, 3] | s + x) AS sum

MATCH (r:Resource) RETURN r.name / 2

MATCH (r:Resource) RETURN r.nothing.at.all LIMIT 2

RETURN 1 / 0

RETURN date()

MATCH (r:Resource) SET r.name = 'x'

MATCH (r:Resource) CALL { WITH r DELETE r } RETURN r

LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line

CALL db.labels()

MATCH (n RETURN n
