create table t(a, b);
with recursive c(x) as (select 1 union all select x + 1 from c where x < 30)
    insert into t select x, printf('row %d', x) from c;
create index i on t(b);
update t set b = upper(b) where a % 3 = 0;
select count(*), group_concat(b) from t group by a % 4 order by 2 desc;
select json_group_array(a) from t join (select b as bb from t) on bb = b where a in (select a from t where a < 9);
create trigger r after insert on t begin delete from t where a = new.a - 10; end;
insert into t select a + 10, b || 'x' from t where a > 25;
create view v as select a, row_number() over (order by b) as n from t;
select * from v where n < 4 union select max(a), min(b) from t;
