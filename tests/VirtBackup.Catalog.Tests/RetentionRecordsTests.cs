using VirtBackup.Catalog.Retention;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog.Tests;

public sealed class RetentionRecordsTests : IAsyncDisposable
{
    private static readonly Id16 Machine = new(1);
    private static readonly Id16 Other = new(2);
    private static readonly RetentionRules Week = new() { Daily = 7 };

    private static int _count;

    private readonly string _name = $"retention {Interlocked.Increment(ref _count)}";
    private readonly SqliteDatabase _database;
    private readonly CatalogDatabase _catalog;

    public RetentionRecordsTests()
    {
        _database = SqliteDatabase.OpenInMemory(_name, CatalogSchema.Migrations);
        _catalog = new CatalogDatabase(_database);
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Rule_sets_are_made_changed_listed_and_deleted()
    {
        var rules = new RetentionRules { Last = 1, Hourly = 2, Daily = 3, Weekly = 4, Monthly = 5, Yearly = 6, WithinHours = 7 };
        var made = await _catalog.RuleSets.SetAsync("gold", rules, null, 10, Token);
        Assert.Equal(new RuleSetRow("gold", rules, false, 0, 10), made);
        Assert.Equal(Week, (await _catalog.RuleSets.SetAsync("gold", Week, null, 11, Token)).Rules);
        await _catalog.RuleSets.SetAsync("bronze", RetentionRules.KeepEverything, true, 12, Token);
        Assert.Equal(["bronze", "gold"], (await _catalog.RuleSets.ListAsync(Token)).Select(static row => row.Name));
        await _catalog.RuleSets.DeleteAsync("gold", Token);
        Assert.Null(await _catalog.RuleSets.FindAsync("gold", Token));
        await RefusedAsync(FaultReason.NotFound, _catalog.RuleSets.DeleteAsync("gold", Token));
    }

    [Fact]
    public async Task A_machine_has_its_own_rule_set_or_the_default_or_none()
    {
        Assert.Null(await _catalog.RuleSets.FindOfAsync(Machine, Token));
        await _catalog.RuleSets.SetAsync("usual", Week, true, 1, Token);
        await _catalog.RuleSets.SetAsync("gold", Week, false, 1, Token);
        Assert.Equal(("usual", false), NameOf(await _catalog.RuleSets.FindOfAsync(Machine, Token)));
        Assert.Equal(("gold", true), NameOf(await _catalog.RuleSets.AttachAsync(Machine, "gold", Token)));
        Assert.Equal(("gold", true), NameOf(await _catalog.RuleSets.FindOfAsync(Machine, Token)));
        Assert.Equal(("usual", false), NameOf(await _catalog.RuleSets.FindOfAsync(Other, Token)));
        Assert.Equal([Machine], await _catalog.RuleSets.ListMachinesAsync("gold", Token));
        Assert.Equal(1, (await _catalog.RuleSets.FindAsync("gold", Token))!.Machines);
        await RefusedAsync(FaultReason.FailedPrecondition, _catalog.RuleSets.DeleteAsync("gold", Token));
        await RefusedAsync(FaultReason.FailedPrecondition, _catalog.RuleSets.DeleteAsync("usual", Token));
        Assert.Equal(("usual", false), NameOf(await _catalog.RuleSets.DetachAsync(Machine, Token)));
        await RefusedAsync(FaultReason.NotFound, _catalog.RuleSets.AttachAsync(Machine, "none", Token).AsTask());
    }

    [Fact]
    public async Task At_most_one_rule_set_is_the_default()
    {
        await _catalog.RuleSets.SetAsync("a", Week, true, 1, Token);
        await _catalog.RuleSets.SetAsync("b", Week, true, 1, Token);
        Assert.Equal(["b"], (await _catalog.RuleSets.ListAsync(Token)).Where(static row => row.IsDefault).Select(static row => row.Name));
        // Changing the rules says nothing about the default.
        Assert.True((await _catalog.RuleSets.SetAsync("b", new RetentionRules { Last = 1 }, null, 2, Token)).IsDefault);
        Assert.False((await _catalog.RuleSets.SetAsync("b", Week, false, 2, Token)).IsDefault);
        Assert.Null(await _catalog.RuleSets.FindOfAsync(Machine, Token));
    }

    [Theory]
    [InlineData("")]
    [InlineData("two words")]
    [InlineData("-dash")]
    [InlineData("ümlaut")]
    [InlineData("0123456789012345678901234567890123456789012345678901234567890123456789")]
    public void Names_are_checked(string name) =>
        Assert.Equal(FaultReason.InvalidArgument, Assert.Throws<FaultException>(() => RuleSetRecords.ValidateName(name)).Reason);

    [Fact]
    public async Task Holds_are_counted_one_by_one_and_outlive_the_point()
    {
        var point = await AddPointAsync(5, Machine);
        var first = new HoldRow(new Id16(100), point, "court", "alice", false, 7);
        var second = new HoldRow(new Id16(101), point, "odd contents", "novelty", true, 8);
        await _catalog.Holds.AddAsync(second, Token);
        await _catalog.Holds.AddAsync(first, Token);
        Assert.Equal([first, second], await _catalog.Holds.ListAsync(point, Token));
        Assert.Equal([first, second], (await _catalog.Holds.ListOfMachineAsync(Machine, Token))[point]);
        Assert.Empty(await _catalog.Holds.ListOfMachineAsync(Other, Token));
        Assert.False(await _catalog.Holds.RemoveAsync(new Id16(6), first.HoldId, Token));
        Assert.True(await _catalog.Holds.RemoveAsync(point, first.HoldId, Token));
        await _catalog.Points.DeleteAsync(point, Token);
        Assert.Equal([second], await _catalog.Holds.ListAsync(point, Token));
    }

    [Fact]
    public async Task The_newest_verification_of_a_point_counts()
    {
        var (first, second) = (await AddPointAsync(5, Machine), await AddPointAsync(6, Machine));
        await _catalog.Checks.SaveAsync([(first, true), (second, true)], 1, Token);
        Assert.Equal([first, second], (await _catalog.Checks.ListSoundAsync(Machine, Token)).Order());
        await _catalog.Checks.SaveAsync([(second, false)], 2, Token);
        Assert.Equal([first], await _catalog.Checks.ListSoundAsync(Machine, Token));
        Assert.Empty(await _catalog.Checks.ListSoundAsync(Other, Token));
        Assert.Equal([Machine], await _catalog.Points.ListMachinesAsync(Token));
    }

    [Fact]
    public async Task The_trusted_time_has_one_row()
    {
        Assert.Null(await _catalog.Time.FindAsync(Token));
        await _catalog.Time.SaveAsync(new TrustedTimeRow(1, "boot", 2, 3, true), Token);
        await _catalog.Time.SaveAsync(new TrustedTimeRow(5, "", 6, 7, false), Token);
        Assert.Equal(new TrustedTimeRow(5, "", 6, 7, false), await _catalog.Time.FindAsync(Token));
    }

    [Fact]
    public async Task A_catalog_of_the_first_version_is_brought_up_to_date()
    {
        var first = CatalogSchema.Migrations with { Scripts = [CatalogSchema.Migrations.Scripts[0]] };
        await using var old = SqliteDatabase.OpenInMemory(_name + " old", first);
        // As the program of that time did it.
        await old.WriteAsync(
            static connection =>
            {
                using var insert = connection.Prepare(
                    """
                    INSERT INTO point (point_id, vm_id, vm_name, agent, created_ms, sequence, consistency, consistency_detail, logical_bytes, read_bytes, stored_bytes,
                        base_point_id, hypervisor_kind, forgotten)
                    VALUES (?1, ?2, 'web1', '', 1, 1, 0, '', 0, 0, 0, ?3, '', 0)
                    """);
                insert.Bind(1, new Id16(5)).Bind(2, Machine).Bind(3, default(Id16)).Execute();
            },
            Token);
        // A second connection to the same memory, by the program of today.
        await using var current = SqliteDatabase.OpenInMemory(_name + " old", CatalogSchema.Migrations);
        var catalog = new CatalogDatabase(current);
        Assert.NotNull(await catalog.Points.FindAsync(new Id16(5), Token));
        await catalog.RuleSets.SetAsync("gold", Week, true, 1, Token);
        Assert.Equal("gold", (await catalog.RuleSets.FindOfAsync(Machine, Token))!.RuleSet.Name);
    }

    public async ValueTask DisposeAsync() => await _database.DisposeAsync();

    private async Task<Id16> AddPointAsync(int id, Id16 machine)
    {
        var point = new Id16((UInt128)id);
        await _catalog.Points.SaveAsync(new PointRow { PointId = point, VmId = machine, VmName = "web1", CreatedMs = id, Sequence = id }, Token);
        return point;
    }

    private static (string Name, bool IsOwn) NameOf(MachineRuleSet? found) => (found!.RuleSet.Name, found.IsOwn);

    private static async Task RefusedAsync(FaultReason reason, ValueTask call) => await RefusedAsync(reason, call.AsTask());

    private static async Task RefusedAsync(FaultReason reason, Task call) => Assert.Equal(reason, (await Assert.ThrowsAsync<FaultException>(() => call)).Reason);
}
