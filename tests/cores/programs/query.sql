create table t(a integer primary key, b text, c real);
insert into t values(1, 'x', 2.5), (2, 'y', 3.5);
create view v as select a, (select max(c) from t u where u.a <= t.a) m from t;
select a, group_concat(b, '-')
from (select t.a, t.b from t join v on v.a = t.a where v.m > (select avg(c) from t))
group by a order by 2;
