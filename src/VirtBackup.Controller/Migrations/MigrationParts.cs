using VirtBackup.Catalog;
using VirtBackup.Controller.Control;

namespace VirtBackup.Controller.Migrations;

/// <summary>What migrations are made with.</summary>
internal sealed record MigrationParts(
    CatalogDatabase Catalog, JobService Jobs, AgentErrands Errands, MigrationPlanner Planner, MigrationOwners Owners, TimeProvider Time);
